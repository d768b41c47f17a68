"""The pages say what is so: their examples run, their tables are the code's."""

import inspect
import re
from dataclasses import fields
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import twisted_mesh
from tests.rooms import picture
from tests.support.processes import Child, ProcessCase
from twisted_mesh import MeshConfig, MeshService, MeshSocket
from twisted_mesh.aio import Mesh
from twisted_mesh.delivery.listeners import EVENTS, Listeners
from twisted_mesh.testing import MemoryMesh
from twisted_mesh.wire import bodies, framing
from twisted_mesh.wire.broadcast import MAX_BATCH_COUNT

ROOT = Path(__file__).parent.parent
API = (ROOT / "docs" / "api.rst").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.rst").read_text()
README = (ROOT / "README.rst").read_text()
LIMITS = (ROOT / "docs" / "limits.rst").read_text()
ASYNCIO = (ROOT / "docs" / "asyncio.rst").read_text()
SECURITY = (ROOT / "docs" / "security.rst").read_text()
SERVICE = (ROOT / "docs" / "service.rst").read_text()
SOCKET = (ROOT / "docs" / "socket.rst").read_text()
TUTORIAL = (ROOT / "docs" / "tutorial.rst").read_text()
TESTING = (ROOT / "docs" / "testing.rst").read_text()
BLOCK = re.compile(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)")


def code_blocks(text: str) -> list[str]:
    """The Python examples of a page, without their indentation."""
    return [re.sub(r"^    ", "", block, flags=re.M) for block in BLOCK.findall(text)]


def promised(example: str) -> list[str]:
    """What an example says it prints."""
    return re.findall(r"print\(.*\)  # (.*)", example)


class ExamplesTests(ProcessCase):
    def run_all(self, *examples: str) -> dict[Child, list[str]]:
        """Run *examples* side by side, each as a program of its own; what each must print."""
        return {self.fork(example): promised(example) for example in examples}

    async def assert_printed(self, printed: dict[Child, list[str]]) -> None:
        """Each has printed its lines and nothing else, and ended well."""
        self.assertEqual(await self.until_ended(*printed), [0] * len(printed), self.children)
        for child, lines in printed.items():
            self.assertEqual((child.lines, child.log), (lines, ""))

    async def test_the_example_of_the_readme_prints_what_it_says(self) -> None:
        *machines, example = code_blocks(README)
        for text in ("".join(machines), example):
            self.assertLessEqual(len([line for line in text.splitlines() if line]), 15)
        self.assertEqual(len(promised(example)), 1)
        await self.assert_printed(self.run_all(example))

    async def test_the_examples_of_the_pages_of_the_three_doors_run(self) -> None:
        pages = (SERVICE, SOCKET, ASYNCIO)
        await self.assert_printed(self.run_all(*(block for page in pages for block in code_blocks(page))))

    async def test_the_example_of_the_testing_page_is_a_test_for_any_runner(self) -> None:
        example, pytests = code_blocks(TESTING)
        (self.directory / "test_alarm.py").write_text(example)
        (self.directory / "test_alarm_too.py").write_text(pytests)
        runners = ("twisted.trial", "unittest")
        told = [self.run_module(runner, "test_alarm") for runner in runners]
        self.assertEqual(await self.until_ended(*told), [0, 0], told)
        for runner, child in zip(runners, told, strict=True):
            self.assertIn(f"``python -m {runner} test_alarm``", TESTING)
            self.assertIn("Ran 2 tests in", child.out.decode() + child.log)
        told = self.run_module("pytest", "-p", "no:cacheprovider", "test_alarm_too.py")
        self.assertIn("``python -m pytest test_alarm_too.py``", TESTING)
        self.assertEqual(await self.until_ended(told), [0], told)
        self.assertIn("6 passed in", told.out.decode())

    def test_the_readme_sets_everything_up_in_two_single_lines(self) -> None:
        commands = re.findall(r"^    (python3 -m venv .*)$", README, flags=re.M)
        self.assertEqual(len(commands), 2)
        self.assertIn("twistd -n --pidfile= mesh --port 4444 --stdio", commands[0])
        self.assertTrue(commands[1].endswith("-m twisted.trial -j 3 tests"))

    async def two_machines(self, here: str, there: str) -> dict[Child, list[str]]:
        """Start what is typed on one machine, and on the other when the address is known."""
        (listen,) = set(re.findall(r"MeshSocket\(.*?\)", here + there))
        (address,) = re.findall(r"(?<=sock\.connect\().*(?=\))", there)
        self.assertEqual(promised(here)[0], f"({address})".replace('"', "'"))
        loopback = 'MeshSocket("127.0.0.1", 0)'
        first = self.fork(here.replace(listen, loopback))
        await self.until(lambda: first.lines)
        told = first.lines[0]
        second = self.fork(there.replace(listen, loopback).replace(address, told[1:-1]))
        return {first: [told, *promised(here)[1:]], second: promised(there)}

    async def test_two_machines_talk_and_the_rest_of_the_tutorial_does_what_it_says(self) -> None:
        here, there, heard, answered, *more, service = code_blocks(TUTORIAL)
        printed = self.run_all("".join(more), service)
        printed |= await self.two_machines(*code_blocks(README)[:2])
        printed |= await self.two_machines(here + heard, there + answered)
        await self.assert_printed(printed)


class LimitsTests(SynchronousTestCase):
    def test_the_limits_page_has_every_limit_with_its_default(self) -> None:
        told = dict(re.findall(r"^``(\w+)`` +([\d.]+) ", LIMITS, flags=re.M))
        config = MeshConfig()
        self.assertEqual(told, {f.name: str(getattr(config, f.name)) for f in fields(MeshConfig)})

    def test_the_limits_page_tells_the_constants_of_the_protocol(self) -> None:
        self.assertEqual(framing.MAX_MESSAGE_BYTES, 2**20)
        self.assertEqual(framing.HANDSHAKE_FRAME_BYTES, 64 * 1024)
        self.assertEqual(MAX_BATCH_COUNT, 16_384)
        self.assertEqual(bodies.MAX_DEPTH, 32)
        self.assertEqual(bodies.MAX_CONTAINERS, 16_384)
        for words in (
            "1 MiB for a message",
            "64 KiB",
            "16,384 messages",
            "32 levels",
            "16,384 lists and dicts",
        ):
            self.assertIn(words, LIMITS)


class PagesTests(SynchronousTestCase):
    def test_the_api_page_has_every_public_name(self) -> None:
        told = re.findall(r"^\.\. (?:autoclass|automodule|py:data):: ([\w.]+)", API, flags=re.M)
        names = {f"twisted_mesh.{name}" for name in [*twisted_mesh.__all__, "testing.MemoryMesh"]}
        self.assertEqual(names.difference(told), set())

    def test_the_picture_of_the_rooms_is_made_from_the_imports_as_they_are(self) -> None:
        drawn = (ROOT / "docs" / "rooms.svg").read_text("utf-8")
        self.assertEqual(drawn, picture(), "make it again: python -m tests.rooms > docs/rooms.svg")

    def test_each_test_that_the_security_page_names_is_there(self) -> None:
        named = re.findall(r"``(tests/[\w/]+\.py)``(?:\s\(([^)]+)\))?", SECURITY)
        self.assertGreater(len(named), 60)
        for path, names in named:
            source = (ROOT / path).read_text()
            for name in re.findall(r"``(\w+)``", names):
                self.assertRegex(source, rf"(class|def) {name}\b", path)

    def test_the_architecture_page_names_every_module_and_no_other(self) -> None:
        package = Path(twisted_mesh.__file__).parent
        modules = {path.stem for path in package.rglob("*.py") if not path.stem.startswith("__")}
        *_, table = ARCHITECTURE.split("\nModules\n")
        table, _ = table.split("\nRules that")
        self.assertEqual(set(re.findall(r"``(\w+)``", table)), modules)

    def test_the_service_page_names_every_keyword_and_method(self) -> None:
        keywords = list(inspect.signature(MeshService).parameters)[1:]
        methods = [name for name in vars(MeshService) if not name.startswith("_") and name.islower()]
        for name in keywords + methods:
            self.assertIn(f"``{name}", SERVICE, f"docs/service.rst does not mention {name}")

    def test_every_list_of_the_events_has_those_that_are_emitted(self) -> None:
        package = Path(twisted_mesh.__file__).parent
        modules = [path.read_text() for path in package.rglob("*.py")]
        events = {name for text in modules for name in re.findall(r'emit\("(\w+)"', text)}
        self.assertEqual(events, set(EVENTS))
        for page in (SERVICE, SOCKET):
            _, table = page.split("\nEvent              When\n")
            table, _ = re.split(r"^=+  =+$", table, maxsplit=2, flags=re.M)[1:]
            self.assertEqual(set(re.findall(r"^``(\w+)`` ", table, flags=re.M)), events)
        self.assertEqual(set(re.findall(r"``(\w+)\(\w+\)``", inspect.getdoc(Listeners.on) or "")), events)
        (sentence,) = re.findall(r"``events\(node\)`` are([^.]*)\.", TESTING)
        self.assertEqual(set(re.findall(r"``(\w+)``", sentence)), events - {"message"})

    def test_the_testing_page_names_every_keyword_and_method(self) -> None:
        keywords = list(inspect.signature(MemoryMesh).parameters)
        names = [name for name in vars(MemoryMesh) if not name.startswith("_")]
        for name in [*keywords, *names, *vars(MemoryMesh(0))]:
            if not name.startswith("_"):
                self.assertRegex(
                    TESTING, f"[`(. ]{name}[`(=.,]", f"docs/testing.rst does not mention {name}"
                )

    def test_the_asyncio_page_names_every_keyword_and_method(self) -> None:
        keywords = list(inspect.signature(Mesh).parameters)
        for name in [*keywords, *(name for name in vars(Mesh) if not name.startswith("_"))]:
            self.assertRegex(ASYNCIO, rf"[`. ]{name}\b", f"docs/asyncio.rst does not mention {name}")

    def test_the_socket_page_names_every_keyword_and_method(self) -> None:
        keywords = list(inspect.signature(MeshSocket).parameters)
        names = [name for name in vars(MeshSocket) if not name.startswith("_")]
        for name in keywords + names:
            self.assertRegex(SOCKET, rf"``{name}\b", f"docs/socket.rst does not mention {name}")

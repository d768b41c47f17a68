"""The house rules, held by reading the source of every module.

A room is a folder. Imports go down from room to room, and stay within a room without a cycle. The core
and the wire compute and touch nothing outside; rooms, functions and constructors stay small; importing
the package never installs a reactor.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from unittest import TestSuite

from twisted.trial.unittest import SynchronousTestCase

import twisted_mesh
from tests.rungs import RUNGS, measured
from tests.support.order import each, mixed

#: The rooms, the lowest first: a module imports from its own and from those before it. What is no folder is
#: named one by one: the values all others speak of, the composition of the core, and the public doors.
ROOMS = (
    "values",
    "wire",
    "core",
    "core.history",
    "core.broadcast",
    "core.membership",
    "core.overlay",
    "core.replies",
    "core.link_life",
    "core.node",
    "trust",
    "simulation",
    "simulation.invariants",
    "simulation.adversaries",
    "simulation.scenarios",
    "simulation.__main__",
    "eventloop",
    "storage",
    "addressing",
    "links",
    "delivery",
    "runtime",
    "service",
    "cli",
    "admin",
    "threads",
    "blocking",
    "awaiting",
    "memory",
    "doors",
    "package",
    "plugin",
)
#: Of these none imports another.
SIDE_BY_SIDE = {"links", "storage", "delivery"}
VALUES = {
    "errors",
    "escaping",
    "flags",
    "grammar",
    "config",
    "message",
    "network",
    "identity",
    "public_names",
    "status",
    "trace",
    "version",
}
DOORS = {"aio", "mesh", "base", "testing", "tap", "demo"}

#: Imports that still lead up or across, each with the knot it is a thread of. The list only gets shorter.
OWED: set[str] = set()

#: Imports that lead up on purpose, inside the function that needs them, each with its reason.
LATE = {
    "service -> admin.control.Control": "MeshService(control=...): a node without it loads no HTTP server",
}

#: Constructors with more than seven parameters, or more than two that are callables. The list only gets
#: shorter; values and the public doors, whose options stay, are not counted.
WIDE: set[str] = set()

#: Clocks, randomness, I/O and threads are handed to the wire and the core from above.
OUTSIDE = {
    *("twisted", "OpenSSL", "asyncio", "select", "socket", "ssl", "threading"),
    *("datetime", "os", "random", "secrets", "time"),
}

#: Words that the package used to name things by, and the field's words that do now: one thing, one word.
#: No module, class, function or attribute is named by one, alone or among other words. Behind a room or
#: a module stand those that are words of other things elsewhere.
REPLACED = """
anchor: target
bringer: first arrival
bringers: first arrivals
carrying: receipt relay
catching_up: backlog
correspondence: pending direct messages
crossing: thread-safe proxies
debt: announced on an eager link
dice: randomness
disowned: key conflict
door: terminal, input, output
epoch_taken: epoch conflict
gathering: batching
hearsay: unverified
hub: driver
impostor: adversary
intake: inbound
journal: changes
keeper: history writer
ledger: catalogue
liar: adversary
liars: adversaries
masses: scenarios
mover: requester
mute: lazy by peer
myself: local node
observer: dispatch
ordeal: soak
orphaned: parent lost
outlet: write queue
parted: leaving
perjurer: adversary
perjurers: adversaries
receipting: receipt issuer
ripe: due
seal: signer
seeker: rejoin
shelf: storage
silence_watch: keepalive
skim: unpack guard
society: invariants
spread: push
standing: presence flags
stays: keep-link vote
steady: monotonic clock
switch: link host
tally: receipt tracker
trickles: stalled answers
victim: moved
visit: exchange
visiting: exchange begun
visits: exchanges
waiters: waiting deferreds
core seek: pull from all
core.broadcast proven: verified
core.broadcast quiet: lazy by us
core.link fetched: last_batch_at
core.link heard: last_frame_at
core.link listed: roster_received
"""
#: Words that are ordinary ones of attributes and functions, and were names of classes and modules.
REPLACED_CLASSES = """
asked: receipt issuer
dialler: persistent peers
dialling: connector
dials: dial limit
disconnected: cool-down
moves: rewiring
run: running node
sending: flow
"""
#: Names in which such a word has another meaning.
ORDINARY = {
    "crossing_silence": "a MeshConfig field: of two nodes that dial each other at once",
    "_crowd_at_the_door": "what the schedule `door` plays; schedules keep their names",
    "_parted": "what the schedule `parted` plays",
    "victim": "the host that an attack is aimed at",
    "ToOneVictim": "the same",
}

MODULE_LINES = 400
FUNCTION_LINES = 60
ROOM_MODULES = 16
PARAMETERS = 7
CALLABLES = 2
PUBLIC_DOORS = {"Mesh", "MeshService", "MeshSocket", "MemoryMesh"}

PACKAGE = "twisted_mesh"
PLUGIN = "twisted.plugins.twisted_mesh_plugin"
ROOT = Path(twisted_mesh.__file__).parent.parent


def read_package() -> dict[str, str]:
    """Read every module of the package and the plugin.

    :return: dotted name -> source; a package is named with its `.__init__`.
    """
    paths = [*(ROOT / PACKAGE).rglob("*.py"), ROOT.joinpath(*PLUGIN.split(".")).with_suffix(".py")]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text("utf-8") for path in paths
    }


@cache
def parsed(source: str) -> ast.Module:
    """The tree of a module, which many rules read."""
    return ast.parse(source)


def room_of(module: str) -> str | None:
    """The room of a module, None where it has none."""
    if module == PLUGIN:
        return "plugin"
    name = module.removeprefix(f"{PACKAGE}.")
    if name == "__init__":
        return "package"
    folder, _, last = name.rpartition(".")
    if name in ROOMS:
        return name
    if folder:
        return folder if folder in ROOMS else None
    return "values" if last in VALUES else "doors" if last in DOORS else None


def imported_names(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the full dotted name of everything a module imports, wherever it does.

    `from a.b import c` gives `a.b.c`, whether c is a module or a name in one.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            # One dot is the package a module stands in; each further dot is one package up.
            base = module.split(".")[: -node.level] if node.level else []
            base += node.module.split(".") if node.module else []
            for alias in node.names:
                yield node.lineno, ".".join([*base, alias.name])


def module_of(name: str, modules: Mapping[str, str]) -> str:
    """Find the module of ours that a dotted name is or lies in; the name itself if none is."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        prefix = ".".join(parts[:length])
        for candidate in (prefix, f"{prefix}.__init__"):
            if candidate in modules:
                return candidate
    return name


def imports(modules: Mapping[str, str]) -> Iterator[tuple[str, int, str]]:
    """Yield each import: the module, the line, and the module of ours it leads to or a foreign name."""
    for module, source in modules.items():
        for line, name in imported_names(module, parsed(source)):
            if " -> ".join(one.removeprefix(f"{PACKAGE}.") for one in (module, name)) not in LATE:
                yield module, line, module_of(name, modules)


def wrong_imports(modules: Mapping[str, str]) -> Iterator[str]:
    """Say of each import whether it leads up, across, outside or round in a circle."""
    graph: dict[str, set[str]] = {}
    owed = set(OWED)
    for module, line, target in imports(modules):
        room = room_of(module) or ""
        top = target.partition(".")[0]
        if room.partition(".")[0] in ("wire", "core") and top in OUTSIDE:
            yield f"{module}:{line}: {room} must not import {top}, have it passed in"
        if target not in modules:
            continue
        graph.setdefault(module, set()).add(target)
        there = room_of(target) or ""
        edge = " -> ".join(name.removeprefix(f"{PACKAGE}.") for name in (module, target))
        if {room, there} <= SIDE_BY_SIDE and room != there and edge not in OWED:
            yield f"{module}:{line}: imports {target}, which lies beside it"
        elif ROOMS.index(there) > ROOMS.index(room) and edge not in OWED:
            yield f"{module}:{line}: imports {target}, which lies above it"
        owed.discard(edge)
    if len(modules) > len(OWED) * 10:  # the package, and not some modules of a test
        yield from (f"{edge}: is owed no more, take it off the list" for edge in sorted(owed))
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield "imports in a circle: " + " <- ".join(error.args[1])


def wide_constructors(module: str, source: str) -> Iterator[str]:
    """Name each class whose constructor takes too much."""
    for node in ast.walk(parsed(source)):
        if not isinstance(node, ast.ClassDef) or node.name in PUBLIC_DOORS:
            continue
        given: list[ast.arg | ast.AnnAssign] = []
        if "dataclass(eq=False" in " ".join(map(ast.unparse, node.decorator_list)):
            given += [one for one in node.body if isinstance(one, ast.AnnAssign) and one.value is None]
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                args = method.args
                given += [*args.posonlyargs, *args.args[1:], *args.kwonlyargs]
        callables = [one for one in given if one.annotation and "Callable" in ast.unparse(one.annotation)]
        if len(given) > PARAMETERS or len(callables) > CALLABLES:
            yield f"{module.removeprefix(f'{PACKAGE}.')}.{node.name}"


def wrong_shapes(module: str, source: str) -> Iterator[str]:
    """Say what is wrong with one module read by itself: its length, its words, its functions."""
    tree = parsed(source)
    if ast.get_docstring(tree) is None:
        yield f"{module}:1: has no docstring"
    for number, text in enumerate(source.splitlines(), 1):
        if marker := re.search(r"\b(TODO|FIXME)\b", text):
            yield f"{module}:{number}: says {marker[0]}: do it or drop it"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                where = f"{module}:{node.lineno}: {node.name}"
                yield f"{where} has {lines} lines, above {FUNCTION_LINES}"
    if module.endswith(".__init__"):
        for statement in tree.body:
            if not is_facade(statement):
                yield f"{module}:{statement.lineno}: more than docstring, imports and __all__"


def long_modules(modules: Mapping[str, str]) -> Iterator[str]:
    """Name each module above the soft bound: longer is a warning, since a split can make it worse."""
    for module, source in modules.items():
        if (lines := len(source.splitlines())) > MODULE_LINES:
            yield f"{module}:1: has {lines} lines, above {MODULE_LINES}: is it still one concern?"


def is_facade(statement: ast.stmt) -> bool:
    """Tell whether a statement is one that an `__init__` may hold."""
    match statement:
        case ast.Import() | ast.ImportFrom():
            return True
        case ast.Expr(value=ast.Constant(value=str())):
            return True
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING"), body=body, orelse=[]):
            return all(isinstance(each, ast.Import | ast.ImportFrom) for each in body)
    return False


def complaints(modules: Mapping[str, str]) -> list[str]:
    """List each break of the rules.

    :param modules: dotted name -> source, as read_package returns it.
    """
    homeless = [
        f"{module}: is in no room; see ROOMS, VALUES and DOORS of tests/test_house.py"
        for module in modules
        if room_of(module) is None
    ]
    if homeless:
        return homeless
    found = [text for module, source in modules.items() for text in wrong_shapes(module, source)]
    for room in ROOMS:
        inside = [one for one in modules if room_of(one) == room and not one.endswith(".__init__")]
        if len(inside) > ROOM_MODULES:
            found.append(f"{room}: has {len(inside)} modules, above {ROOM_MODULES}")
    return [*found, *wrong_imports(modules)]


SHELL = {"storage", "addressing", "links", "delivery", "runtime", "service"}
#: What the shell asks a node, as the docstring of ``Node`` has it.
QUESTIONS = {
    *(
        "handle",
        "status",
        "report",
        "run",
        "origin_of",
        "ends",
        "room",
        "held",
        "held_runs",
        "room_for",
        "head",
        "way",
        "holders",
        "missed_by",
        "read",
        "next_run",
        "settled",
        "has_key_conflict",
        "is_over",
        "counts",
        "footprint",
    ),
}


def named(tree: ast.Module) -> Iterator[tuple[int, str, bool]]:
    """Yield the line and the name of each class, function and attribute, and whether it is a class."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name, isinstance(node, ast.ClassDef)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr, False
        if isinstance(node, ast.ClassDef):
            for statement in node.body:
                targets = statement.targets if isinstance(statement, ast.Assign) else []
                targets += [statement.target] if isinstance(statement, ast.AnnAssign) else []
                yield from ((one.lineno, one.id, False) for one in targets if isinstance(one, ast.Name))


def old_words(module: str, source: str) -> Iterator[str]:
    """Name each module, class, function and attribute that is named by a word which was replaced."""
    room, _, last = module.removeprefix(f"{PACKAGE}.").rpartition(".")
    names = [
        (number, name, is_class, re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower().strip("_"))
        for number, name, is_class in ((1, last, True), *named(parsed(source)))
    ]
    for text, classes_alone in ((REPLACED, False), (REPLACED_CLASSES, True)):
        for was, now in (line.split(": ") for line in text.split("\n") if line):
            where, _, word = was.rpartition(" ")
            if not f"{room}.{last}.".startswith(f"{where}." if where else ""):
                continue
            for number, name, is_class, snake in names:
                found = snake == word if classes_alone else f"_{word}_" in f"_{snake}_"
                if found and name not in ORDINARY and (is_class or not classes_alone):
                    yield f"{module}:{number}: {name}: say {now} for {word.replace('_', ' ')}"


def doors_into_the_core(module: str, source: str) -> Iterator[str]:
    """Name each part of a node that a module of the shell looks at.

    Above the service a node is the service itself.
    """
    if room_of(module) not in SHELL:
        return
    for place in ast.walk(parsed(source)):
        if isinstance(place, ast.Attribute):
            of = place.value
            name = of.attr if isinstance(of, ast.Attribute) else of.id if isinstance(of, ast.Name) else ""
            if name in ("node", "_node") and place.attr not in QUESTIONS:
                yield f"{module}:{place.lineno}: looks at node.{place.attr}: ask Node.status()"


class TestHouse(SynchronousTestCase):
    """The package as it is."""

    def test_every_module_keeps_the_rules(self) -> None:
        modules = read_package()
        self.assertIn(f"{PACKAGE}.__init__", modules)
        self.assertIn(PLUGIN, modules)
        found = complaints(modules)
        self.assertEqual(found, [], "\n" + "\n".join(found))
        for text in long_modules(modules):
            warnings.warn(text, stacklevel=1)

    def test_no_constructor_gets_wider(self) -> None:
        wide = {
            name for module, source in read_package().items() for name in wide_constructors(module, source)
        }
        self.assertEqual(wide - WIDE, set(), "at most 7 parameters, 2 of them callables")
        self.assertEqual(WIDE - wide, set(), "wide no more: take it off the list")

    def test_one_thing_has_one_word(self) -> None:
        modules = read_package()
        found = [text for module, source in modules.items() for text in old_words(module, source)]
        self.assertEqual(found, [], "\n" + "\n".join(found))
        used = {name for source in modules.values() for _, name, _ in named(parsed(source))}
        self.assertEqual(ORDINARY.keys() - used, set(), "named by nothing any more: take it off the list")

    def test_the_shell_enters_the_core_by_its_doors_alone(self) -> None:
        found = [
            text
            for module, source in read_package().items()
            for text in doors_into_the_core(module, source)
        ]
        self.assertEqual(found, [], "\n" + "\n".join(found))

    def modules_after(self, imported: str) -> set[str]:
        """Import a module in a fresh interpreter and return what it has loaded by then."""
        code = f"import sys, {imported}; print(*sys.modules, sep='\\n')"
        # In ROOT, so that a checkout which is not installed is found as well.
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return set(done.stdout.split())

    def test_importing_the_package_installs_no_reactor(self) -> None:
        loaded = self.modules_after(PACKAGE)
        self.assertIn(PACKAGE, loaded)
        self.assertNotIn("twisted.internet.reactor", loaded)

    def test_the_plugin_loads_nothing_of_ours(self) -> None:
        # twistd and trial load every plugin at every start, whoever's command they run.
        loaded = self.modules_after(PLUGIN)
        self.assertIn(PLUGIN, loaded)
        self.assertEqual([name for name in loaded if name.split(".")[0] == PACKAGE], [])
        self.assertNotIn("twisted.internet.reactor", loaded)

    def test_a_node_without_a_control_socket_loads_no_web_server(self) -> None:
        loaded = self.modules_after(f"{PACKAGE}.tap")
        self.assertIn(f"{PACKAGE}.service", loaded)
        self.assertEqual({"twisted.web.server", "prometheus_client"}.intersection(loaded), set())


class TestRungs(SynchronousTestCase):
    """The rungs of the tests."""

    def test_each_package_and_module_of_tests_is_in_one(self) -> None:
        tests = ROOT / "tests"
        packages = {path.parent.name for path in tests.glob("*/test_*.py")}
        modules = {path.stem for path in tests.glob("test_*.py")}
        self.assertEqual(sorted(" ".join(RUNGS).split()), sorted(packages | modules))

    def test_the_time_before_a_result_is_that_of_its_rung(self) -> None:
        lines = """Running 4 tests.
tests.core.test_node
  TestNode
    test_one ...   [OK]
    test_two ...   [OK]
tests.simulation.test_ways
  TestWays
    test_three ... [OK]
tests.wire.test_codec
  TestCodec
    test_four ...  [OK]
-------------------
Ran 4 tests in 9.0s
"""
        times = iter((0, 1, 3, 3, 3, 4, 14, 14, 14, 16, 16, 16, 50, 50))
        *passed, core, _, _, simulation, _, _, _ = measured(
            lines.splitlines(keepends=True), lambda: next(times)
        )
        self.assertEqual("".join(passed), lines)
        core_rung = "core wire values benchmarks"
        self.assertEqual(core, f"rung:   5.0 of {RUNGS[core_rung]:2} s: {core_rung}\n")
        self.assertEqual(simulation, f"rung:  10.0 of {RUNGS['simulation']:2} s: simulation\n")


class TestOrder(SynchronousTestCase):
    """Tests that wait begin between those that compute."""

    class Named(SynchronousTestCase):
        """A test with a name of its own."""

        name = ""

        def id(self) -> str:
            return self.name

        def runTest(self) -> None:
            """Do nothing."""

    def named(self, name: str) -> Named:
        """A test of that name."""
        test = self.Named()
        test.name = name
        return test

    def test_those_of_processes_are_at_even_distances(self) -> None:
        others = [self.named(f"tests.core.{number}") for number in range(20)]
        waiting = [self.named(f"tests.processes.{number}") for number in range(3)]
        suite = TestSuite([TestSuite(others), TestSuite(waiting)])
        order = [test.id() for test in mixed(list(each(suite)))]
        self.assertEqual([order.index(test.id()) for test in waiting], [0, 7, 14])
        self.assertEqual([id for id in order if "core" in id], [test.id() for test in others])


class TestChecker(SynchronousTestCase):
    """The checker is able to find each fault, and finds none where there is none."""

    def found(self, **sources: str) -> list[str]:
        """Check small modules, named below the package with `__` for a dot, docstrings added."""
        modules = {
            f"{PACKAGE}.{name.replace('__', '.')}": f'"""Doc."""\n{source}\n'
            for name, source in sources.items()
        }
        return complaints(modules)

    def assert_one(self, found: list[str], *parts: str) -> None:
        """Assert that there is one complaint and that it names all that is needed to act."""
        self.assertEqual(len(found), 1, found)
        for part in parts:
            self.assertIn(part, found[0])

    def test_imports_down_and_along_the_floor_pass(self) -> None:
        found = self.found(
            errors="import os",
            wire__framing="from twisted_mesh import errors\nimport struct",
            core__history__stream="from ...wire.framing import Frame\nfrom ...errors import MeshError",
            core__node="from .history import stream\nfrom twisted_mesh.core.history.stream import Stream",
            service="from twisted_mesh.core import node\nimport time, twisted.internet.defer",
            tap="def make():\n    from twisted_mesh.service import MeshService",
        )
        self.assertEqual(found, [])

    def test_import_of_a_higher_floor(self) -> None:
        for statement in (
            "from twisted_mesh import service",
            "from twisted_mesh.service import MeshService",
            "import twisted_mesh.service as shell",
            "from .. import service",
            "from ..service import MeshService",
            "def late():\n    from ..service import MeshService",
        ):
            found = self.found(core__node=statement, service="")
            self.assert_one(found, "core.node:", "imports twisted_mesh.service", "above")

    def test_import_of_what_the_package_re_exports(self) -> None:
        facade = {f"{PACKAGE}.__init__": '"""Doc."""', f"{PACKAGE}.mesh": '"""Doc."""\n'}
        for statement in ("import twisted_mesh", "from twisted_mesh import MeshService"):
            found = complaints({**facade, f"{PACKAGE}.mesh": f'"""Doc."""\n{statement}'})
            self.assert_one(found, "mesh:2", "imports twisted_mesh.__init__")

    def test_import_in_a_circle(self) -> None:
        found = self.found(core__link="from . import links", core__links="from .link import Link")
        self.assert_one(found, "circle", "core.link", "core.links")

    def test_clocks_and_io_in_the_pure_floors(self) -> None:
        for pure in ("core__node", "wire__framing"):
            for statement, name in (
                ("import time", "time"),
                ("import os.path as path", "os"),
                ("from twisted.internet import defer", "twisted"),
                ("def late():\n    from random import random", "random"),
            ):
                self.assert_one(self.found(**{pure: statement}), f"must not import {name},")

    def test_import_of_a_room_beside(self) -> None:
        found = self.found(links__tls="", storage__sqlite="from twisted_mesh.links import tls")
        self.assert_one(found, "storage.sqlite:2", "links.tls", "beside")

    def test_an_import_that_is_owed_passes_and_no_other(self) -> None:
        self.patch(sys.modules[__name__], "OWED", {"wire.framing -> core.link"})
        self.assertEqual(self.found(wire__framing="from ..core import link", core__link=""), [])
        found = self.found(wire__frames="from ..core import link", core__link="")
        self.assert_one(found, "wire.frames", "core.link", "above")

    def test_one_that_is_owed_no_more(self) -> None:
        self.patch(sys.modules[__name__], "OWED", {"wire.framing -> core.link"})
        modules = {f"wire__m{number}": "" for number in range(11)}
        self.assert_one(self.found(**modules), "wire.framing -> core.link", "no more")

    def test_a_room_with_too_many_modules(self) -> None:
        modules = {f"wire__m{number}": "" for number in range(ROOM_MODULES + 1)}
        self.patch(sys.modules[__name__], "OWED", set())
        self.assertEqual(self.found(**dict(list(modules.items())[1:])), [])
        self.assert_one(self.found(**modules), "wire: has 17 modules")

    def test_a_constructor_that_takes_too_much(self) -> None:
        def wide(*parameters: str, name: str = "C") -> list[str]:
            source = f"class {name}:\n    def __init__(self, {', '.join(parameters)}): pass"
            return list(wide_constructors("twisted_mesh.links.tls", source))

        numbers = [f"p{number}" for number in range(PARAMETERS)]
        calls = [f"c{number}: Callable[[], None]" for number in range(CALLABLES)]
        self.assertEqual(wide(*numbers) + wide(*calls), [])
        self.assertEqual(wide(*numbers, "more"), ["links.tls.C"])
        self.assertEqual(wide(*calls, "more: Callable[[], None]"), ["links.tls.C"])
        self.assertEqual(wide(*numbers, "more", name="MeshService"), [])
        fields = "".join(f"    p{number}: int\n" for number in range(PARAMETERS + 1))
        source = f"@dataclass(eq=False)\nclass C:\n{fields}    has_default: int = 0\n"
        self.assertEqual(list(wide_constructors("links.tls", source)), ["links.tls.C"])

    def test_a_word_that_was_replaced(self) -> None:
        def old(module: str, source: str) -> list[str]:
            return list(old_words(f"{PACKAGE}.{module}", source))

        for source in (
            "class HubOfLinks: pass",
            "class C:\n  def mute(self): pass",
            "class C:\n  is_ripe: bool",
            "class C:\n  ORPHANED = 1",
            "async def _visits(): pass",
            "self.catching_up = 1",
            "def f():\n  a, self._debt = 1, 2",
            "class Run: pass",
        ):
            self.assert_one(old("links.tls", source), "links.tls:", ": say ", " for ")
        self.assert_one(old("links.hub", ""), "links.hub:1: hub: say driver")
        self.assert_one(
            old("core.link", "class Link:\n  heard = 0.0"), "core.link:2: heard: say last_frame_at"
        )
        self.assert_one(old("core.broadcast.pace", "self.proven = 1"), "proven: say verified")
        fine = (
            "run = hub = 1\nclass NewRun:\n  run = 1\n  def dialling(self, mute): self.commuted = mute.hub"
        )
        for module in ("links.tls", "core.links", "core.membership.roster"):
            self.assertEqual(old(module, f"{fine}\n  heard = 0.0\n  crossing_silence = 1"), [])

    def test_a_look_into_the_core(self) -> None:
        for statement in ("self.driver.node.outbox.head", "node.outflow", "self._node.history.get(run)"):
            source = f"x = {statement}"
            self.assertEqual(len(list(doors_into_the_core("twisted_mesh.runtime.driver", source))), 1)
            self.assertEqual(list(doors_into_the_core("twisted_mesh.core.node", source)), [])
        self.assertEqual(list(doors_into_the_core("twisted_mesh.runtime.driver", "node.status()")), [])

    def test_module_without_a_room(self) -> None:
        self.assert_one(self.found(cellar=""), "twisted_mesh.cellar", "ROOMS", "test_house.py")
        self.assert_one(self.found(cellar__wine=""), "twisted_mesh.cellar.wine", "no room")

    def test_module_without_a_docstring(self) -> None:
        self.assert_one(complaints({f"{PACKAGE}.errors": "import os\n"}), "errors:1", "docstring")

    def test_long_module_is_a_warning(self) -> None:
        self.assertEqual(list(long_modules({"errors": "\n" * MODULE_LINES})), [])
        found = list(long_modules({"errors": "\n" * (MODULE_LINES + 1)}))
        self.assert_one(found, f"has {MODULE_LINES + 1} lines")

    def test_function_too_long(self) -> None:
        for head in ("def f():", "async def f():", "class C:\n  def f(self):"):
            body = "\n   pass"
            self.assertEqual(self.found(errors=head + body * (FUNCTION_LINES - 1)), [])
            found = self.found(errors=head + body * FUNCTION_LINES)
            self.assert_one(found, f"f has {FUNCTION_LINES + 1} lines")

    def test_marker_of_unfinished_work(self) -> None:
        for marker in ("TODO", "FIXME"):
            self.assert_one(self.found(errors=f"x = 1  # {marker}: y"), "errors:2", marker)

    def test_code_in_an_init(self) -> None:
        fine = '"""Doc."""\nfrom .mesh import MeshSocket\n__all__ = ["MeshSocket"]\n'
        modules = {f"{PACKAGE}.__init__": fine, f"{PACKAGE}.mesh": '"""Doc."""'}
        self.assertEqual(complaints(modules), [])
        modules[f"{PACKAGE}.__init__"] += "x = 1\n"
        self.assert_one(complaints(modules), "__init__:4", "more than")

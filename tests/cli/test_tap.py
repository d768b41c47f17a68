"""The options of ``twistd mesh``, and the service they make."""

from __future__ import annotations

import gc
import io
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python import usage
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

import twisted_mesh
from tests.support.certificates import CertificateAuthority, pem, write
from twisted_mesh import tap
from twisted_mesh.admin.control import Control
from twisted_mesh.admin.supervisor import Supervised
from twisted_mesh.admin.web import Web
from twisted_mesh.cli import terminal
from twisted_mesh.cli.jsonlines import JsonLines
from twisted_mesh.cli.stdio import Stdio
from twisted_mesh.errors import LocalError
from twisted_mesh.identity import Identity
from twisted_mesh.memory.network import MemoryNetwork
from twisted_mesh.service import MeshService
from twisted_mesh.trust.authority import roles_of
from twisted_mesh.trust.grants import AuthorityFiles
from twisted_mesh.trust.policy import Trust
from twisted_mesh.wire.membership import Role

PAGE = Path(__file__).parent.parent.parent / "docs" / "commandline.rst"
ID = Identity.generate().id.decode()


def options(*arguments: str, parent: dict[str, Any] | None = None) -> tap.Options:
    """The options of a command line, as twistd makes them."""
    made = tap.Options()
    made.parent = parent
    made.parseOptions(arguments)
    return made


class OptionsTests(SynchronousTestCase):
    def refused(self, *arguments: str, parent: dict[str, Any] | None = None) -> str:
        """Why a command line is refused."""
        kind = usage.UsageError if parent is None else SystemExit
        return str(self.assertRaises(kind, options, *arguments, parent=parent))

    def test_what_cannot_work_is_refused_with_what_to_write(self) -> None:
        for arguments, told in (
            ("", "neither --port, --listen nor --peer: this node could never meet another"),
            ("--port x", "--port is a number from 0 to 65535, not 'x'"),
            ("--port ²", "--port is a number from 0 to 65535, not '²'"),
            ("--port 65536", "--port is a number from 0 to 65535, not '65536'"),
            ("--port -1", "--port is a number from 0 to 65535, not '-1'"),
            ("--peer host", "peer 'host': write host:port, [v6]:port or ID@host:port"),
            ("--peer ::1:4444", "peer '::1:4444': write host:port"),
            ("--peer host:0", "port must be 1 to 65535, not 0"),
            ("--peer host:70000", "port must be 1 to 65535, not 70000"),
            ("--peer short@host:1", "peer 'short@host:1': write host:port"),
            ("--peer foo:bar", "peer 'foo:bar': write host:port (Unknown endpoint type: 'foo')"),
            ("--peer tcp:host:x", "peer 'tcp:host:x': write host:port (invalid literal"),
            ("--peer tcp:host", "peer 'tcp:host': write host:port ("),
            ("--peer ssl:host:1", "'ssl:host:1': links are encrypted by the mesh itself, write tcp:"),
            ("--listen 4444", "listen '4444': write tcp:PORT"),
            ("--listen tcp:x", "listen 'tcp:x': write tcp:PORT"),
            ("--listen foo:1", "listen 'foo:1': write tcp:PORT (Unknown endpoint type: 'foo')"),
            ("--listen ssl:4444", "'ssl:4444': links are encrypted by the mesh itself, write tcp:"),
            ("--port 0 --subnet \udcff", "subnet must be Unicode text, not '\\udcff'"),
            ("--port 0 --encryption ssl", "encryption must be 'SSL' or 'Plaintext', not 'ssl'"),
            ("--port 0 --out-addr host", "address 'host': write host:port"),
            ("--port 0 --out-addr host:0", "port must be 1 to 65535, not 0"),
            ("--port 0 --role chief", "role is 'member' or 'guest', not 'chief'"),
            ("--port 0 --tag floor", "--tag is KEY=VALUE, not 'floor'"),
            ("--port 0 --tag =3", "--tag is KEY=VALUE, not '=3'"),
            ("--port 0 --tag a=1 --tag a=2", "--tag a= is given twice"),
            (f"--port 0 --tag {'k' * 33}=v", "a tag's name is at most 32 characters, not 33"),
            (f"--port 0 --tag k={'v' * 129}", "tag 'k' is at most 128 characters, not 129"),
            ("--port 0 --tag k=\udcff", "tag 'k' is text, not '\\udcff'"),
            (f"--port 0 --label {'l' * 65}", "label is at most 64 characters, not 65"),
            ("--port 0 --replay 0", "replay is a positive number of seconds or 'all', not 0.0"),
            ("--port 0 --replay ever", "replay is a positive number of seconds or 'all', not 'ever'"),
            ("--port 0 --debug-level 6", "--debug-level is 0 to 5, not '6'"),
            ("--port 0 --debug-level x", "--debug-level is 0 to 5, not 'x'"),
            ("--port 0 --stdio --print", "--stdio and --print both write to standard output: choose one"),
            ("--port 0 --typed", "--typed goes with --print: lines of --stdio are text"),
            ("--port 0 --stdio --typed", "--typed goes with --print"),
            ("--port 0 --receipts", "--receipts goes with --stdio or --print, which have lines typed"),
            ("--port 0 --history x", "--history is one node's: give --identity FILE, too, for its key"),
            ("--port 0 --http tcp:1", "--http and --http-token go together"),
            ("--port 0 --http-token x", "--http and --http-token go together"),
            ("--port 0 --http 8420 --http-token x", "listen '8420': write tcp:PORT"),
            (
                "--port 0 --http unix:x --http-token x",
                "listen 'unix:x': write tcp:PORT:interface",
            ),
            ("--port 0 --bogus", "option --bogus not recognized"),
            ("--port 0 more", "Wrong number of arguments."),
        ):
            self.assertIn(told, self.refused(*arguments.split()))

    def test_the_version_is_told_with_that_of_twisted(self) -> None:
        told = io.StringIO()
        self.patch(sys, "stdout", told)
        ended = self.assertRaises(SystemExit, options, "--version")
        self.assertEqual(ended.code, 0)
        first, second = told.getvalue().splitlines()
        self.assertEqual(first, f"twisted_mesh version: {twisted_mesh.__version__}")
        self.assertRegex(second, r"^Twisted version: \d+\.")

    def test_a_terminal_is_refused_to_a_daemon(self) -> None:
        told = "--stdio and --print need the terminal: use twistd -n"
        for option in ("--stdio", "--print"):
            line = self.refused("--port=0", option, parent={"nodaemon": 0})
            self.assertEqual(line, f"twistd mesh: {told} (--help lists the options)")
            options("--port=0", option, parent={"nodaemon": 1})
            options("--port=0", option, parent={})  # twist never becomes a daemon
        options("--port=0", parent={"nodaemon": 0})

    def test_closed_standard_streams_are_refused_to_a_terminal(self) -> None:
        for name in ("__stdin__", "__stdout__"):
            patch = self.patch(sys, name, None)
            self.assertIn("not closed ones", self.refused("--port=0", "--stdio"))
            options("--port=0")
            patch.restore()

    def test_listeners_and_peers_add_up(self) -> None:
        made = options(
            *("-p", "1", "--listen=tcp:2", "--listen=unix:/tmp/mesh"),
            *("--peer=a:1", f"--peer={ID}@[::1]:2", "--peer=tcp:b:3"),
            "--out-addr=:9",
        )
        self.assertEqual(made["listen"], ["tcp:1", "tcp:2", "unix:/tmp/mesh"])
        self.assertEqual(made["peer"], ["a:1", f"{ID}@[::1]:2", "tcp:b:3"])
        self.assertEqual(made["out-addr"], ("", 9))

    def config(self, text: str) -> str:
        """A file of options."""
        path = self.mktemp()
        Path(path).write_text(text)
        return path

    def test_a_file_has_options_by_their_names(self) -> None:
        path = self.config(
            'port = 1\nlabel = "web1"\nlisten = ["tcp:2"]\npeer = "a:1"\n'
            "no-overlay = true\nreceipts = false\n"
            '[tag]\nfloor = 3\nroom = "a b"\n'
        )
        for words in ((f"--config={path}",), ("--config", path)):
            made = options(*words)
            self.assertEqual((made["listen"], made["peer"]), (["tcp:1", "tcp:2"], ["a:1"]))
            self.assertEqual((made["label"], made["tag"]), ("web1", {"floor": "3", "room": "a b"}))
            self.assertEqual((made["no-overlay"], made["receipts"]), (1, 0))

    def test_the_command_line_replaces_and_adds_to_the_file(self) -> None:
        path = self.config('label = "web1"\npeer = ["a:1"]')
        made = options("--label=web2", "--peer=b:1", f"--config={path}")
        self.assertEqual((made["label"], made["peer"]), ("web2", ["a:1", "b:1"]))

    def test_a_file_that_cannot_be_used_says_what_is_wrong_with_it(self) -> None:
        self.assertIn("--config missing: No such file or directory", self.refused("--config=missing"))
        for text, told in (
            ("label = ", "Invalid value"),
            (
                "lable = 1",
                "there is no option 'lable'; the options are allow, authority, ca, certificate, control, ",
            ),
            ('config = "x"', "there is no option 'config'"),
            ("stdio = 1", "stdio is true or false, not 1"),
            ("port = true", "port is text or a number, or a list of them, not True"),
            ("peer = [[1]]", "peer is text or a number, or a list of them, not [1]"),
            ('port = "x"', "--port is a number from 0 to 65535, not 'x'"),
        ):
            self.assertIn(told, self.refused(f"--config={self.config(text)}"))

    def test_tags_have_a_key_and_any_value(self) -> None:
        made = options("--port=0", "--tag=floor=3", "--tag", "where=a=b", "--tag=empty=")
        self.assertEqual(made["tag"], {"floor": "3", "where": "a=b", "empty": ""})

    def test_a_replay_is_seconds_or_all(self) -> None:
        self.assertEqual(options("--port=0", "--replay=1.5")["replay"], 1.5)
        self.assertEqual(options("--port=0", "--replay=all")["replay"], "all")


class TrustTests(SynchronousTestCase):
    """Options that say who may join."""

    def file(self, content: str) -> str:
        """A file that nobody else can read."""
        path = Path(self.mktemp())
        path.write_text(content)
        path.chmod(0o600)
        return str(path)

    def test_they_combine(self) -> None:
        secret, ids = self.file("ab" * 32), self.file(ID)
        given = options("--port=0", f"--secret={secret}", f"--allow={ids}", f"--deny={self.file('')}")
        self.assertEqual(
            str(given.trust()),
            "nodes with the secret and nodes on a list and nodes that are on no list of denied ones",
        )
        self.assertTrue(options("--port=0").trust().is_open)

    def test_a_file_that_cannot_be_used_is_a_usage_error(self) -> None:
        for option in ("secret", "allow", "deny"):
            for content in (None, "ab"):
                path = self.mktemp() if content is None else self.file(content)
                error = self.assertRaises(usage.UsageError, options, "--port=0", f"--{option}={path}")
                self.assertIn(path, str(error))

    def test_an_authority_goes_with_a_grant_and_an_identity(self) -> None:
        key = self.mktemp()
        AuthorityFiles.create(key, "mesh")
        grant, own = self.mktemp(), self.mktemp()
        AuthorityFiles.load(key).grant(Identity.create(own).id.decode(), roles_of("link,author"), grant)
        given = (f"--authority={key}.pub", f"--grant={grant}", f"--identity={own}")
        self.assertEqual(str(options("--port=0", *given).trust()), "nodes with a grant of the authority")
        for lacking, words in (
            (given[:1], "--authority and --grant go together"),
            (given[1:], "--authority and --grant go together"),
            (given[:2], "give --identity FILE, too"),
            ((f"--authority={grant}", *given[1:]), "line 2, is none"),
            ((*given, "--subnet=another"), "another mesh"),
            ((f"--authority={key}", *given[1:]), "that is a private key"),
        ):
            error = self.assertRaises(usage.UsageError, options, "--port=0", *lacking)
            self.assertIn(words, str(error))
        error = self.assertRaises(
            SystemExit, tap.makeService, options("--port=0", *given[:2], f"--identity={self.mktemp()}")
        )
        self.assertIn("have one made for it", str(error))

    def test_a_ca_goes_with_a_certificate_and_an_identity(self) -> None:
        authority, own = CertificateAuthority("the CA"), self.mktemp()
        certificate = authority.certify(Identity.create(own).origin, until=10_000_000_000)
        ca, mine = (write(Path(self.mktemp()), pem(one)) for one in (authority.certificate, certificate))
        given = (f"--ca={ca}", f"--certificate={mine}", f"--identity={own}")
        self.assertEqual(str(options("--port=0", *given).trust()), "nodes with a certificate of the CA")
        for lacking, words in (
            (given[:1], "--ca and --certificate go together"),
            (given[1:], "--ca and --certificate go together"),
            (given[:2], "give --identity FILE, too"),
            ((f"--ca={mine}", *given[1:]), "is of no CA"),
            ((*given, "--encryption=Plaintext"), "encryption='SSL'"),
        ):
            error = self.assertRaises(usage.UsageError, options, "--port=0", *lacking)
            self.assertIn(words, str(error))
        other = f"--identity={self.mktemp()}"
        error = self.assertRaises(SystemExit, tap.makeService, options("--port=0", *given[:2], other))
        self.assertIn("have one made for the key in its identity", str(error))


class MakeServiceTests(SynchronousTestCase):
    def make(self, *arguments: str) -> tap.Process:
        """The service of a command line."""
        made = tap.makeService(options(*arguments))
        assert isinstance(made, tap.Process)
        return made

    def test_options_become_those_of_the_service(self) -> None:
        key = self.mktemp()
        process = self.make(
            *("--port=0", "--subnet=s", "--encryption=Plaintext", f"--identity={key}", "--out-addr=h:1"),
            *("--label=mine", "--tag=floor=3", "--no-overlay"),
        )
        node, control = process
        self.assertIsInstance(control, Control)
        self.assertIsInstance(node, MeshService)
        self.assertEqual(node.protocol, ("s", "Plaintext"))
        self.assertEqual(node.out_addr, ("h", 1))
        self.assertEqual(node.id, Identity.load(key).id)
        self.assertEqual(node.footprint(), {})
        profile = node._settings.new_run(0, None).profile
        said = profile.label, profile.tags, profile.overlay, profile.role
        self.assertEqual(said, ("mine", {"floor": "3"}, False, Role.MEMBER))
        (other,) = self.make("--port=0", "--no-control")
        self.assertTrue(other._settings.new_run(0, None).profile.overlay)

    def test_a_supervisor_that_asks_is_told(self) -> None:
        self.patch(os, "environ", {"NOTIFY_SOCKET": "/run/systemd/notify"})
        _, supervised = self.make("--port=0", "--no-control")
        self.assertIsInstance(supervised, Supervised)

    def test_http_over_tcp_goes_with_a_token_and_beside_the_control_socket(self) -> None:
        path = Path(self.mktemp())
        words = ("--port=0", "--http=tcp:0", f"--http-token={path}")
        _, web, control = self.make(*words)
        self.assertIsInstance(web, Web)
        self.assertIsInstance(control, Control)
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        _, web = self.make(*words, "--no-control")
        self.assertIsInstance(web, Web)
        path.chmod(0o604)
        refusal = self.assertRaises(SystemExit, self.make, *words)
        self.assertRegex(str(refusal.code), r"^mesh: the token .* can be read by others: chmod 600 .*$")

    def test_an_identity_others_can_read_is_refused_in_one_line(self) -> None:
        key = Path(self.mktemp())
        Identity.create(key)
        key.chmod(0o640)
        refusal = self.assertRaises(SystemExit, self.make, "--port=0", f"--identity={key}")
        self.assertRegex(str(refusal.code), r"^mesh: identity .*chmod 600.*$")

    def test_a_terminal_takes_standard_output_from_the_log(self) -> None:
        for argument, kind in (("--stdio", Stdio), ("--print", JsonLines)):
            log, out = io.StringIO(), sys.__stdout__
            self.patch(sys, "stderr", log)
            self.patch(sys, "stdout", out)
            made = options("--port=0", argument, parent={"logFile": out})
            _, _, terminal = tap.makeService(made)
            self.assertIsInstance(terminal, kind)
            self.assertIs(sys.stdout, log)
            self.assertIs(made.parent["logFile"], log)

    def test_a_log_file_of_its_own_stays(self) -> None:
        self.patch(sys, "stdout", sys.stdout)
        log = io.StringIO()
        made = options("--port=0", "--print", parent={"logFile": log})
        tap.makeService(made)
        self.assertIs(made.parent["logFile"], log)


class Refusing(TCP4ServerEndpoint):
    """An endpoint that cannot listen."""

    def __init__(self, failure: Exception) -> None:
        self.failure = failure

    def listen(self, factory: object) -> Deferred[Any]:
        return fail(self.failure)


class Later(TCP4ServerEndpoint):
    """An endpoint that listens when the test says so."""

    def __init__(self) -> None:
        self.listening: Deferred[Any] = Deferred()

    def listen(self, factory: object) -> Deferred[Any]:
        return self.listening


class StartTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.told = io.StringIO()
        self.patch(terminal.sys, "__stderr__", self.told)  # type: ignore[attr-defined]
        self.registered: list[Any] = []
        self.patch(terminal.atexit, "register", lambda *call: self.registered.append(call))  # type: ignore[attr-defined]
        self.clock: Any = Clock()
        self.clock.stop = lambda: self.stopped.append(True)
        self.clock.addSystemEventTrigger = lambda *trigger: None  # the tests keep their own signal handlers
        self.stopped: list[bool] = []
        self.addCleanup(gc.unfreeze)
        for number in (signal.SIGTERM, signal.SIGINT):
            self.addCleanup(signal.signal, number, signal.signal(number, signal.SIG_IGN))

    def process(
        self, endpoint: Any, *, is_daemon: bool = False, identity: Identity | None = None
    ) -> tap.Process:
        """The process of a node that listens at *endpoint*."""
        node = MeshService(self.clock, listen=[endpoint], identity=identity)
        return tap.Process(self.clock, node, is_daemon=is_daemon)

    def test_a_port_that_cannot_be_had_ends_the_process_with_a_line(self) -> None:
        taken = OSError(98, "Address already in use")
        for error, told in (
            (CannotListenError("127.0.0.1", 4444, taken), "127.0.0.1:4444: Address already in use"),
            (CannotListenError("", 4444, taken), "port 4444: Address already in use"),
            (
                CannotListenError(None, b"/run/mesh", OSError("AF_UNIX path too long")),
                "/run/mesh: AF_UNIX path too long",
            ),
            (
                CannotListenError(None, b"/run/mesh", "Cannot acquire lock"),
                "/run/mesh: another process does",
            ),
            (FileNotFoundError(2, "No such file", "1", None, "/run/m.lock"), "/run/m: No such file"),
            (PermissionError(13, "Permission denied", b"/run/m.lock"), "/run/m: Permission denied"),
        ):
            for start in ("privilegedStartService", "startService"):
                process = self.process(Refusing(error))
                refusal = self.assertRaises(SystemExit, getattr(process, start))
                self.assertEqual(refusal.code, f"mesh: cannot listen on {told}")

    def test_a_node_that_leaves_for_good_says_so_when_the_process_stops(self) -> None:
        node = MeshService(self.clock, listen=())
        retired: list[bool] = []
        stop = node.stopService

        def stopping(retire: bool = False) -> Deferred[None]:
            retired.append(retire)
            return stop(retire)

        self.patch(node, "stopService", stopping)
        for retires in (False, True):
            process = tap.Process(self.clock, node, False, retires)
            process.startService()
            stopped = process.stopService()
            self.clock.advance(60)
            self.successResultOf(stopped)
            node.disownServiceParent()
        self.assertEqual(retired, [False, True, False])

    def logged(self) -> list[str]:
        """The log lines from now on."""
        lines: list[str] = []

        def note(event: Any) -> None:
            lines.append(formatEvent(event))

        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)
        return lines

    def run_at(self, host: str, trust: Trust | None = None) -> list[str]:
        """The log lines of a node that listens at *host*, is sent SIGHUP, and stops."""
        lines, network = self.logged(), MemoryNetwork()
        self.clock.callFromThread = lambda call: call()
        self.addCleanup(signal.signal, signal.SIGHUP, signal.signal(signal.SIGHUP, signal.SIG_IGN))
        node = MeshService(self.clock, listen=[network.listen(host, 4444)], trust=trust)
        process = tap.Process(self.clock, node, is_daemon=False)
        process.privilegedStartService()
        process.startService()
        signal.raise_signal(signal.SIGHUP)
        stopped = node.stopService()
        self.clock.advance(60)
        self.successResultOf(stopped)
        signal.raise_signal(signal.SIGHUP)
        return lines

    def test_a_node_that_others_can_reach_says_that_everybody_can_join(self) -> None:
        denied = Path(self.mktemp())
        denied.write_text("")
        for host, trust, count in (
            ("10.0.0.1", None, 1),
            ("0.0.0.0", Trust.open(), 1),
            ("::", None, 1),
            ("127.0.0.1", None, 0),
            ("::1", None, 0),
            ("10.0.0.1", Trust.deny(denied), 0),
        ):
            lines = [line for line in self.run_at(host, trust) if "everybody who can reach" in line]
            self.assertEqual(len(lines), count, host)
            self.assertTrue(all("--secret FILE or --allow FILE" in line for line in lines))

    def test_a_hangup_has_it_read_its_files_again(self) -> None:
        denied = Path(self.mktemp())
        denied.write_text("")
        reload = MeshService.reload_trust
        seen = []

        def note(node: MeshService) -> None:
            seen.append(node)
            reload(node)

        self.patch(MeshService, "reload_trust", note)
        self.assertEqual(
            [line for line in self.run_at("10.0.0.1", Trust.deny(denied)) if "force" in line], []
        )
        self.assertEqual(len(seen), 2)
        denied.chmod(0o600)
        trust = Trust.deny(denied)

        def spoil(node: MeshService) -> None:
            denied.write_text("no id")
            reload(node)

        self.patch(MeshService, "reload_trust", spoil)
        lines = [line for line in self.run_at("10.0.0.1", trust) if "stays in force" in line]
        self.assertEqual(len(lines), 1)
        self.assertIn(
            "line 1, is not the id of a node, as mesh id prints it; what was read before", lines[0]
        )

    def test_signals_end_it_in_order_as_soon_as_it_listens(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        seen: list[tuple[str, int]] = []
        self.clock.sigTerm = lambda number, frame: seen.append(("term", number))
        self.clock.sigInt = lambda number, frame: seen.append(("int", number))
        self.process(Later()).privilegedStartService()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        self.assertEqual(seen, [("term", signal.SIGTERM), ("int", signal.SIGINT)])

    def test_signals_that_somebody_else_heeds_are_left_to_that(self) -> None:
        self.process(Later()).privilegedStartService()
        self.assertEqual(signal.getsignal(signal.SIGTERM), signal.SIG_IGN)
        self.assertEqual(signal.getsignal(signal.SIGINT), signal.SIG_IGN)

    def test_a_daemon_hands_the_reason_to_who_started_it(self) -> None:
        error = CannotListenError("", 4444, OSError(98, "Address already in use"))
        process = self.process(Refusing(error), is_daemon=True)
        told = self.assertRaises(LocalError, process.privilegedStartService)
        self.assertEqual(str(told), "cannot listen on port 4444: Address already in use")

    def test_a_run_that_cannot_be_numbered_ends_the_process_with_a_line(self) -> None:
        key = Path(self.mktemp())
        identity = Identity.create(key)
        epoch = key.with_name(key.name + ".epoch")
        epoch.write_text("no number")
        process = self.process(Later(), identity=identity)
        refusal = self.assertRaises(SystemExit, process.privilegedStartService)
        told = f"mesh: epoch {epoch.absolute()} is damaged: delete it if the clock is right"
        self.assertEqual(refusal.code, told)

    def test_a_listener_that_fails_later_ends_the_process_with_the_reason(self) -> None:
        for error, told in (
            (CannotListenError("", 4444, OSError(98, "Taken")), "cannot listen on port 4444: Taken"),
            (RuntimeError("no onion today"), "cannot listen: no onion today"),
        ):
            endpoint = Later()
            process = self.process(endpoint)
            process.startService()
            self.assertEqual(self.stopped, [])
            endpoint.listening.errback(Failure(error))
            self.clock.advance(0)
            self.assertEqual((self.stopped, self.registered.pop()), ([True], (os._exit, 1)))
            self.stopped.clear()
            self.assertTrue(self.told.getvalue().endswith(f"mesh: {told}\n"))
            process.stopService()
            self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_once_the_node_is_up_the_collector_looks_at_none_of_what_there_was(self) -> None:
        gc.unfreeze()
        endpoint = Later()
        process = self.process(endpoint)
        process.startService()
        self.assertEqual(gc.get_freeze_count(), 0)
        MemoryNetwork().listen("10.0.0.1", 4444).listen(Factory()).chainDeferred(endpoint.listening)
        self.assertGreater(gc.get_freeze_count(), 1000)
        process.stopService()
        self.clock.advance(60)

    def test_stopping_before_a_listener_is_up_is_no_failure(self) -> None:
        process = self.process(Later())
        process.startService()
        process.stopService()
        self.assertEqual((self.stopped, self.told.getvalue()), ([], ""))


class PageTests(SynchronousTestCase):
    def test_the_page_has_every_option_as_help_tells_it(self) -> None:
        table = PAGE.read_text("utf-8").partition("Options\n-------\n")[2]
        told = {}
        for option, default in re.findall(r"^``(-[^`]*)``(?:, default ``([^`]*)``)?$", table, flags=re.M):
            names = [part.partition("=")[0].split()[0] for part in option.split(", ")]
            told[names[-1]] = (sorted(names), default)
        synopsis = tap.Options().getUsage(width=1000)
        helped = {}
        for line in re.findall(r"^ +(-.*)$", synopsis, flags=re.M):
            names = re.findall(r"(?:^|, )(--?[\w-]+)", line.split("  ")[0])
            default = re.search(r"\[default: (.*)\]", line)
            helped[names[-1]] = (sorted(names), default[1] if default else "")
        self.assertEqual(told, helped)

"""``twistd mesh``: from options to a service.

Contract: a wrong option is a usage error before anything listens.  If the port is taken, the process ends
with status 1 and one line that names the port.  If another node uses the same key, the status is 78.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from twisted_mesh.addressing.addresses import parse_host_port, parse_peer
from twisted_mesh.admin import supervisor as supervision
from twisted_mesh.cli.config_file import arguments_of
from twisted_mesh.cli.jsonlines import JsonLines
from twisted_mesh.cli.lines import LineInput
from twisted_mesh.cli.stdio import Stdio
from twisted_mesh.cli.terminal import STDERR, end_process, standard_error
from twisted_mesh.core.reachability import Reach, reach_of
from twisted_mesh.errors import IdentityError, KeyInUse, LocalError, NotRunning, StoreError, TrustError
from twisted_mesh.eventloop import log_output
from twisted_mesh.eventloop.clock import make_monotonic
from twisted_mesh.identity import Identity
from twisted_mesh.links.listening import parse_http, parse_listen
from twisted_mesh.network import PLAINTEXT, SSL, Protocol
from twisted_mesh.runtime.profile import checked_profile
from twisted_mesh.service import MeshService
from twisted_mesh.trust.policy import Trust
from twisted_mesh.version import __version__

_log = Logger()
#: EX_CONFIG of sysexits.h: to start the process again would not help while the other node runs.
KEY_IN_USE: Final = 78
#: The options that choose a terminal -> the class of the terminal, and the help of the option.
TERMINALS: Final[dict[str, tuple[type[LineInput], str]]] = {
    "stdio": (Stdio, "Broadcast each line typed; print each text message received as a line."),
    "print": (JsonLines, "Print messages and events as JSON lines."),
}


class Options(usage.Options):
    """The options of ``twistd mesh``; docs/commandline.rst has examples."""

    optParameters = [
        ["port", "p", None, "Listen on this TCP port of all IPv4 interfaces (same as --listen tcp:N)."],
        ["out-addr", None, None, "HOST:PORT that others can dial (:PORT for the LAN address)."],
        ["subnet", None, "mesh", "Link only with nodes of this subnet."],
        ["encryption", None, SSL, f"{SSL} (TLS 1.3) or {PLAINTEXT}."],
        ["role", None, "member", "member; or guest, which no list of members has."],
        ["config", None, None, "File of TOML with options by their names; the command line adds to it."],
        [
            "secret",
            None,
            None,
            "File of the mesh's secret: only nodes that have it link.",
        ],
        [
            "authority",
            None,
            None,
            "File of the authority's public key: only nodes with a grant of it link; goes with --grant.",
        ],
        ["grant", None, None, "File of this node's grant; goes with --authority and --identity."],
        [
            "ca",
            None,
            None,
            "File of a CA: only nodes with a certificate of it link; goes with --certificate.",
        ],
        ["certificate", None, None, "File of this node's certificate; goes with --ca and --identity."],
        [
            "allow",
            None,
            None,
            "File of ids, one a line: only these nodes link.",
        ],
        [
            "deny",
            None,
            None,
            "File of ids, one a line: these nodes do not link.",
        ],
        ["label", None, None, "A name for people, told to all members; at most 64 characters."],
        ["history", None, None, "File for messages sent and received; goes with --identity."],
        ["replay", None, None, "Deliver messages of the last SECONDS, too, or 'all' that are held."],
        ["identity", None, None, "File of the node's key; made if there is none, mode 0600."],
        ["control", None, None, "Path of the control socket; by default it is named by the process."],
        ["http", None, None, "Answer as the control socket at this endpoint, too, with a token."],
        ["http-token", None, None, "File of the token for --http; made if there is none, mode 0600."],
        ["log-format", None, "text", "text; or json, an object a line."],
        ["debug-level", None, "1", "0 warnings; 1 links, 2 decisions, 4 handlers, 5 messages as well."],
    ]
    optFlags = [
        ["no-overlay", None, "Link only with the nodes of --peer, and with nodes that dial this one."],
        ["no-control", None, "Open no control socket."],
        ["retire", None, "Leave for good when the node stops, so that no other node waits for it."],
        *([name, None, told] for name, (_, told) in TERMINALS.items()),
        ["receipts", None, "With --stdio or --print: send lines typed; tell how many members have each."],
        ["typed", None, "With --print: each line of standard input is a message as JSON."],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []
        self["peer"] = []
        self["tag"] = {}

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse the options, those in the file of ``--config`` first.

        :raises SystemExit: under twistd, an option is wrong.  From a UsageError twistd would print all
            options, on standard output, and the reason below them.
        """
        try:
            self._parse(list(sys.argv[1:] if options is None else options))
        except usage.UsageError as error:
            if not self._is_twistds:
                raise
            raise SystemExit(f"twistd mesh: {error} (--help lists the options)") from error

    @property
    def _is_twistds(self) -> bool:
        return self.parent is not None and "nodaemon" in self.parent

    def _parse(self, words: list[str]) -> None:
        files = []
        for at, word in enumerate(words):
            option, equals, path = word.partition("=")
            is_config = len(option) > len("--con") and "--config".startswith(option)  # getopt cuts so, too
            if is_config and (equals or words[at + 1 :]):
                files.append(path if equals else words[at + 1])
        if len(files) > 1:
            raise usage.UsageError("--config is given twice")
        super().parseOptions([*(self._of_file(files[0]) if files else ()), *words])

    def _of_file(self, path: str) -> list[str]:
        names = {str(name) for name, *_ in self.optParameters} - {"config"}
        try:
            flags = {str(name) for name, *_ in self.optFlags}
            return arguments_of(path, names, flags, {"listen", "peer", "tag"})
        except LocalError as error:
            raise usage.UsageError(str(error)) from None

    def opt_listen(self, endpoint: str) -> None:
        """Listen on this server endpoint, such as tcp:4444:interface=127.0.0.1; may be repeated."""
        self["listen"].append(endpoint)

    def opt_peer(self, peer: str) -> None:
        """Stay linked with the node at HOST:PORT or ID@HOST:PORT; may be repeated."""
        self["peer"].append(peer)

    def opt_tag(self, tag: str) -> None:
        """Tell all members KEY=VALUE of this node; may be repeated."""
        key, equals, value = tag.partition("=")
        if not equals or not key:
            raise usage.UsageError(f"--tag is KEY=VALUE, not {tag!r}")
        if key in self["tag"]:
            raise usage.UsageError(f"--tag {key}= is given twice")
        self["tag"][key] = value

    def opt_version(self) -> None:
        """Print the versions of this package and of Twisted, and end."""
        print("twisted_mesh version:", __version__)
        super().opt_version()

    def postOptions(self) -> None:
        """Refuse options that cannot work."""
        if self["port"] is not None:
            if not _is_number(self["port"], 65535):
                raise usage.UsageError(f"--port is a number from 0 to 65535, not {self['port']!r}")
            self["listen"].insert(0, f"tcp:{self['port']}")
        if not self["listen"] and not self["peer"]:
            raise usage.UsageError(
                "neither --port, --listen nor --peer: this node could never meet another"
            )
        if not _is_number(self["debug-level"], 5):
            raise usage.UsageError(f"--debug-level is 0 to 5, not {self['debug-level']!r}")
        if self["history"] is not None and self["identity"] is None:
            raise usage.UsageError("--history is one node's: give --identity FILE, too, for its key")
        if (self["authority"] is None) != (self["grant"] is None):
            raise usage.UsageError("--authority and --grant go together: each node has a grant of its own")
        if (self["ca"] is None) != (self["certificate"] is None):
            raise usage.UsageError(
                "--ca and --certificate go together: each node has a certificate of its own"
            )
        for name in ("grant", "certificate"):
            if self[name] is not None and self["identity"] is None:
                raise usage.UsageError(f"--{name} is one node's: give --identity FILE, too, for its key")
        if self["control"] is not None and self["no-control"]:
            raise usage.UsageError("--control and --no-control exclude each other")
        if (self["http"] is None) != (self["http-token"] is None):
            raise usage.UsageError("--http and --http-token go together: nothing is told without a token")
        self._check_terminal()
        self._choose_log()
        try:
            self._check()
        except LocalError as error:
            raise usage.UsageError(str(error)) from error

    def terminals(self) -> list[type[LineInput]]:
        """The terminals that the options choose: at most one, once they are checked."""
        return [terminal for name, (terminal, _) in TERMINALS.items() if self[name]]

    def _check_terminal(self) -> None:
        names, chosen = [f"--{name}" for name in TERMINALS], self.terminals()
        both = " and ".join(names)
        if len(chosen) > 1:
            raise usage.UsageError(f"{both} both write to standard output: choose one")
        if self["receipts"] and not chosen:
            raise usage.UsageError(f"--receipts goes with {' or '.join(names)}, which have lines typed")
        if self["typed"] and not self["print"]:
            raise usage.UsageError("--typed goes with --print: lines of --stdio are text")
        if chosen and self.becomes_daemon():
            raise usage.UsageError(f"{both} need the terminal: use twistd -n")
        if chosen and None in (sys.__stdin__, sys.__stdout__):
            raise usage.UsageError(f"{both} need standard input and output, not closed ones")

    def _choose_log(self) -> None:
        """Have twistd, or twist, write the log in the format of ``--log-format``."""
        as_json, parent = self["log-format"] == "json", self.parent
        if not as_json and self["log-format"] != "text":
            raise usage.UsageError(f"--log-format is text or json, not {self['log-format']!r}")
        if parent is None:
            return
        if "logFile" in parent or "logfile" not in parent:  # twist
            if as_json:
                parent["fileLogObserverFactory"] = log_output.json_log
            return
        if parent.get("syslog") or parent.get("logger"):
            if as_json:
                raise usage.UsageError("--log-format json excludes twistd's --syslog and --logger")
            return
        path = parent["logfile"] or (None if parent.get("nodaemon") else "twistd.log")
        is_file = path not in (None, "-")
        if is_file or (as_json and parent.get("nodaemon")):  # twistd refuses a daemon that logs to a stream
            log_output.choose(path if is_file else None, as_json)
            parent["logger"] = log_output.FACTORY

    def _check(self) -> None:
        """Check the options as the service will.

        :raises LocalError: an option cannot work; the text says why.
        """
        Protocol(self["subnet"], self["encryption"]).checked()
        parse_listen(None, self["listen"])
        if self["http"] is not None:
            parse_http(None, self["http"])
        for peer in self["peer"]:
            parse_peer(peer)
        if self["out-addr"] is not None:
            self["out-addr"] = parse_host_port(self["out-addr"])
        if self["replay"] is not None:
            with suppress(ValueError):
                self["replay"] = float(self["replay"])
        self.trust().load(Protocol(self["subnet"], self["encryption"]), time.time, 0.0)
        checked_profile(self["role"], self["label"], self["tag"], True, self["replay"])

    def trust(self) -> Trust:
        """The trust that the options choose."""
        trust = Trust.open()
        for name, mode in (("secret", Trust.secret), ("allow", Trust.only), ("deny", Trust.deny)):
            if self[name] is not None:
                trust &= mode(self[name])
        if self["authority"] is not None:
            trust &= Trust.authority(self["authority"], self["grant"])
        if self["ca"] is not None:
            trust &= Trust.certificates(self["ca"], self["certificate"])
        return trust

    def becomes_daemon(self) -> bool:
        """Whether this is twistd without -n; `twist` and Windows' twistd never become daemons."""
        parent = self.parent
        return parent is not None and not parent.get("nodaemon", True) and os.name == "posix"


def _is_number(text: str, highest: int) -> bool:
    """Whether *text* is a number from 0 to *highest* in ASCII digits."""
    return text.isascii() and text.isdigit() and int(text) <= highest


def makeService(options: Options) -> MultiService:
    """The service that *options* describe, with its terminal."""
    from twisted.internet import reactor

    make_monotonic(reactor)
    token = None
    try:
        if options["http"] is not None:
            from twisted_mesh.admin import guard  # and with it a web server

            token = guard.load_or_create(options["http-token"])
        identity = None if options["identity"] is None else Identity.load_or_create(options["identity"])
        node = MeshService(
            reactor,
            listen=tuple(options["listen"]),
            peers=tuple(options["peer"]),
            subnet=options["subnet"],
            encryption=options["encryption"],
            identity=identity,
            out_addr=options["out-addr"],
            trust=options.trust(),
            history=options["history"],
            replay=options["replay"],
            overlay=not options["no-overlay"],
            role=options["role"],
            label=options["label"],
            tags=options["tag"],
            debug_level=int(options["debug-level"]),
        )
    except LocalError as error:
        raise SystemExit(f"mesh: {error}") from None
    process = Process(reactor, node, options.becomes_daemon(), bool(options["retire"]))
    paths = None
    if token is not None:
        from twisted_mesh.admin.http import Paths
        from twisted_mesh.admin.web import Web

        paths = Paths(reactor, node)
        Web(reactor, paths, options["http"], token).setServiceParent(process)
    if not options["no-control"]:
        from twisted_mesh.admin.control import Control

        beside = None if identity is None else identity.path
        Control(reactor, node, options["control"], beside, paths=paths).setServiceParent(process)
    if supervisor := os.environ.get(supervision.VARIABLE):
        supervision.Supervised(node, supervisor).setServiceParent(process)
    for terminal in options.terminals():
        _log_to_stderr(options)
        service = terminal.here()(reactor, node, bool(options["receipts"]))
        if isinstance(service, JsonLines):
            service.typed_lines = bool(options["typed"])
        service.setServiceParent(process)
    return process


class Process(MultiService):
    """The services of one process; if it cannot start, one line says why."""

    def __init__(self, reactor: Any, node: MeshService, is_daemon: bool, retires: bool = False) -> None:
        """
        :param is_daemon: whether another process of twistd waits for the result of the start.
        :param retires: whether the node leaves for good when it stops.
        """
        super().__init__()
        self._reactor = reactor
        self._node = node
        self._is_daemon = is_daemon
        self._retires = retires
        node.setServiceParent(self)

    def privilegedStartService(self) -> None:
        self._start(super().privilegedStartService)

    def startService(self) -> None:
        """Start, or end the process with status 1, now or when a listener fails later."""
        self._start(super().startService)
        self._reactor.addSystemEventTrigger("before", "shutdown", _ignore_further_signals)
        self._node.ready().addCallbacks(lambda _: spare_the_collector(), self._never_ready)
        if self._node.trust.is_open and any(map(_is_reached, self._node.addresses)):
            _log.warn(_OPEN)
        self._node.key_in_use().addCallbacks(self._key_is_lost, lambda why: why.trap(NotRunning))

    def stopService(self) -> Deferred[Any]:
        """Stop all services."""
        if self._retires:
            self._node.stopService(retire=True)  # it stops once
        stopped: Deferred[Any] = super().stopService()
        return stopped

    def _start(self, start: Callable[[], None]) -> None:
        _handle_signals(self._reactor)
        has_terminal = os.isatty(0)  # which sends SIGHUP when it is closed
        if hasattr(signal, "SIGHUP") and not (has_terminal and self._node.trust.is_open):
            reload = self._reload
            signal.signal(signal.SIGHUP, lambda number, frame: self._reactor.callFromThread(reload))
        try:
            start()
        except (CannotListenError, OSError, IdentityError, StoreError) as error:
            if self._is_daemon:
                # twistd hands only an Exception, and no SystemExit, to the process that waits.
                raise LocalError(_reason(error)) from None
            raise SystemExit(f"mesh: {_reason(error)}") from None

    def _reload(self) -> None:
        """Open the log again, and read the files that say who may join."""
        log_output.reopen()
        try:
            self._node.reload_trust()
        except TrustError as error:
            _log.warn("{error}; what was read before stays in force", error=error)
        except NotRunning:
            pass  # the node stops

    def _never_ready(self, failure: Failure) -> None:
        if not failure.check(NotRunning):  # else the node was stopped before all listeners were up
            end_process(self._reactor, _reason(failure.value))

    def _key_is_lost(self, _: KeyInUse) -> None:
        end_process(self._reactor, _COPIED, KEY_IN_USE)


_COPIED: Final = (
    "another node that was started later uses the key of this one, which ends: "
    "its identity file was copied; give each node one of its own"
)


#: Said at the start by a node that listens where others can reach it.
_OPEN: Final = (
    "everybody who can reach this node can join: give --secret FILE or --allow FILE to all nodes "
    "(mesh secret new FILE makes a secret)"
)


def spare_the_collector() -> None:
    """Let the garbage collector look no more at what there is now, which stays as long as the process.

    Else a full collection looks through the objects of all modules, in the midst of messages (measured:
    docs/performance.rst).  Only an application knows what stays, so a service leaves this to it.
    """
    gc.collect()
    gc.freeze()


def _is_reached(address: tuple[str, int]) -> bool:
    """Whether another host may reach a port at *address*."""
    return reach_of(address[0]) is not Reach.OWN


def _handle_signals(reactor: Any) -> None:
    """Let a signal end the process in order, from now on.

    The reactor replaces these handlers by its own when it runs, a little after the node has reported that
    it listens.
    """
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda number, frame: reactor.sigTerm(number, frame))
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda number, frame: reactor.sigInt(number, frame))


def _ignore_further_signals() -> None:
    """Ignore signals, since the process stops already: at a second signal Twisted would log a traceback."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _reason(error: BaseException | None) -> str:
    """Why a node does not start, as one line."""
    if isinstance(error, CannotListenError):
        if isinstance(error.port, bytes):  # the path of a UNIX socket
            where = os.fsdecode(error.port)
        else:
            where = f"{error.interface}:{error.port}" if error.interface else f"port {error.port}"
        if error.socketError == "Cannot acquire lock":  # the lock is a file beside the UNIX socket
            return f"cannot listen on {where}: another process does"
        reason = getattr(error.socketError, "strerror", None) or error.socketError
        return f"cannot listen on {where}: {reason}"
    if isinstance(error, OSError) and (lock := error.filename2 or error.filename):
        return f"cannot listen on {os.fsdecode(lock).removesuffix('.lock')}: {error.strerror}"
    return str(error) if isinstance(error, LocalError) else f"cannot listen: {error}"


def _log_to_stderr(options: Options) -> None:
    """Keep the log out of standard output, which is for messages."""
    # twistd -n opens its log on sys.stdout after this; twist has opened it already.
    # A line of the log must not be written into the middle of a line that is typed.
    sys.stdout = standard_error if os.isatty(STDERR) else sys.stderr
    if options.parent is not None and options.parent.get("logFile") is sys.__stdout__:
        options.parent["logFile"] = sys.stdout

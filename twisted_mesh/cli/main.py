"""The command ``mesh``: asks and steers the node that runs on this machine.

Contract: it starts without Twisted.  The exit status is 0 if the answer is yes or all is done, 1 if it is
no, and 2 if the options are wrong or no node answers.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, Final

from twisted_mesh.cli import completion, guest, trust_files, verbs
from twisted_mesh.cli.client import Failed, the_node
from twisted_mesh.escaping import for_terminal
from twisted_mesh.version import __version__

#: EX_USAGE would be 64; argparse ends with 2 for wrong options, and so does this for no node.
NO_NODE: Final = 2
INTERRUPTED: Final = 130  # as shells have it for SIGINT
RUN: Final = "run"  # its options are those of twistd mesh
DEMO: Final = "demo"
_AGO: Final = re.compile(r"(?a:(\d{1,9}(?:\.\d{1,3})?)(s|m|min|h|d|))")
_UNITS: Final = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


class _Verb(argparse.ArgumentParser):
    """The options of a verb; words that are none of them are told with the usage of this verb."""

    def parse_known_args(self, *given: Any, **named: Any) -> Any:
        found, unknown = super().parse_known_args(*given, **named)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


def parser() -> argparse.ArgumentParser:
    """The options of ``mesh``."""
    mesh = argparse.ArgumentParser(prog="mesh", description="Look at a node, and send by it.")
    _add_node(mesh, default=None)
    mesh.add_argument("--version", action="version", version=f"twisted_mesh {__version__}")
    verb_class: type[argparse.ArgumentParser] = _Verb
    subparsers = mesh.add_subparsers(metavar="VERB", required=True, parser_class=verb_class)
    for name, verb in (
        ("status", verbs.status),
        ("members", verbs.members),
        ("links", verbs.links),
        ("authors", verbs.authors),
        ("lag", verbs.lag),
    ):
        table = _add(subparsers, name, verb)
        table.add_argument("--watch", action="store_true", help="show it again every second")
    _add_wait(subparsers.choices["lag"], 5.0, "wait so long for the answers (5)")
    receipts = _add(subparsers, "receipts", verbs.receipts)
    receipts.add_argument(
        "--count", type=_count, default=10, metavar="N", help="the newest N messages (10)"
    )
    _add(subparsers, "health", verbs.health)
    _add(subparsers, "page", verbs.page)
    trust_files.add_verbs(subparsers)
    completion.add_verb(subparsers)
    subparsers.add_parser(DEMO, help="run five nodes here, with a page to play with them")
    subparsers.add_parser(RUN, help="run a node in the foreground, with the options of twistd mesh")
    send = _add(subparsers, "send", verbs.send)
    _add_message(send)
    send.add_argument("--to", metavar="MEMBER", help="only to the member with this label or id")
    _add_wait(send, 0.0, "tell which members have it by then")
    send.add_argument("--trace", action="store_true", help="show by which way it went")
    request = _add(subparsers, "request", verbs.request)
    request.add_argument("to", metavar="MEMBER", help="the member with this label or id")
    _add_message(request)
    _add_wait(request, 10.0, "wait so long for the answer (10)")
    query = _add(subparsers, "query", verbs.query)
    _add_message(query)
    _add_wait(query, 5.0, "wait so long for the answers (5)")
    ping = _add(subparsers, "ping", verbs.ping)
    ping.add_argument("to", nargs="?", metavar="MEMBER", help="only the member with this label or id")
    _add_wait(ping, 5.0, "wait so long for the answers (5)")
    trace = _add(subparsers, "trace", verbs.trace)
    trace.add_argument(
        "message",
        type=_message,
        metavar="AUTHOR[/EPOCH][/NUMBER]",
        help="without a number its newest message",
    )
    _add_wait(trace, 5.0, "wait so long for the answers (5)")
    forget = _add(subparsers, "forget", verbs.forget)
    forgotten = forget.add_mutually_exclusive_group(required=True)
    forgotten.add_argument("member", nargs="?", metavar="MEMBER", help="the member with this label or id")
    forgotten.add_argument("--consumer", metavar="NAME", help="this node's consumer of that name")
    _add_reading(subparsers)
    for name in ("members", "send", "request", "query", "listen"):
        guest.add_options(subparsers.choices[name])
    return mesh


def _add_reading(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verbs that print messages."""
    listen = _add(subparsers, "listen", verbs.listen)
    listen.add_argument("--count", type=_count, metavar="N", help="end after N messages")
    listen.add_argument(
        "--for", dest="seconds", type=_some_seconds, metavar="SECONDS", help="end after that time"
    )
    listen.add_argument(
        "--since",
        type=_ago,
        metavar="TIME",
        help="begin with what came in the last 90s, 5m, 2h, 7d, or all",
    )
    listen.add_argument("--consumer", metavar="NAME", help="as the node's consumer that keeps its place")
    listen.add_argument(
        "--start",
        type=_start,
        default="new",
        metavar="TIME",
        help="where a new consumer begins: new (default), all, 5m",
    )
    history = _add(subparsers, "history", verbs.history)
    history.add_argument(
        "author", nargs="?", metavar="MEMBER", help="the messages of this one, by label or id"
    )
    history.add_argument("--count", type=_count, metavar="N", help="the newest N messages (20)")
    history.add_argument(
        "--since", type=_ago, metavar="TIME", help="only what came in the last 90s, 5m, 2h, 7d"
    )


def _run(options: list[str]) -> int:
    """Run a node with twistd, in the foreground, if the options are right; else say what is wrong."""
    from twisted.python.usage import UsageError
    from twisted.scripts.twistd import ServerOptions, runApp  # type: ignore[attr-defined]  # of the platform

    sys.argv = ["twistd", "-n", "--pidfile=", "mesh", *options]
    config = ServerOptions()
    try:
        config.parseOptions()
    except (UsageError, SystemExit) as error:  # an option of twistd, or of twistd mesh
        wrong = error if isinstance(error, UsageError) else error.__cause__
        if not isinstance(wrong, UsageError):
            raise  # --help
        print(f"mesh: {for_terminal(str(wrong))}", file=sys.stderr)
        return verbs.NO
    runApp(config)
    return verbs.YES


def _add(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser], name: str, verb: verbs.Verb
) -> argparse.ArgumentParser:
    told = (verb.__doc__ or "").strip()
    parser = subparsers.add_parser(name, help=told[0].lower() + told[1:].rstrip("."), description=told)
    _add_node(parser, default=argparse.SUPPRESS)  # else it would undo a --node before the verb
    parser.add_argument("--json", action="store_true", help="print the node's answer as JSON")
    parser.set_defaults(verb=verb, wrong=parser.error)
    return parser


def _add_node(parser: argparse.ArgumentParser, default: str | None) -> None:
    told = "the node's control socket, label or id, if more than one runs here; or http://ADDRESS:PORT"
    parser.add_argument("--node", metavar="PATH", default=default, help=told)
    told = "file with the token of the node at that URL"
    parser.add_argument("--token", metavar="FILE", default=default, help=told)


def _add_message(parser: argparse.ArgumentParser) -> None:
    told = "each is one packet of the message"
    parser.add_argument("text", nargs="+", type=_text, metavar="TEXT", help=told)
    parser.add_argument("--type", type=int, help="the application's own type: 48 (0x30) or more")


def _add_wait(parser: argparse.ArgumentParser, default: float, told: str) -> None:
    parser.add_argument("--wait", type=_seconds, default=default, metavar="SECONDS", help=told)


def _seconds(text: str) -> float:
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"seconds from 0 to 3600, not {text!r}")
    return seconds


def _some_seconds(text: str) -> float:
    if not (seconds := _seconds(text)):
        raise argparse.ArgumentTypeError("more than 0 seconds")
    return seconds


def _ago(text: str) -> str:
    """Seconds as text for the node: of ``90``, ``90s``, ``5m``, ``2h`` or ``7d``; or ``all``."""
    if text == "all":
        return text
    if (found := _AGO.fullmatch(text)) is None:
        raise argparse.ArgumentTypeError(f"a time such as 90s, 5m, 2h, 7d or all, not {text!r}")
    number, unit = found.groups()
    return f"{float(number) * _UNITS[unit]:g}"


def _start(text: str) -> str:
    return text if text == "new" else _ago(text)


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"text in UTF-8, not {text!r}") from None
    return text


def _message(text: str) -> tuple[str, int | None, int | None]:
    """The author, the epoch and the number in ``AUTHOR[/EPOCH][/NUMBER]``."""
    author, *numbers = text.rsplit("/", 2)
    if not author or not all(number.isascii() and number.isdigit() and int(number) for number in numbers):
        raise argparse.ArgumentTypeError(f"AUTHOR, AUTHOR/NUMBER or AUTHOR/EPOCH/NUMBER, not {text!r}")
    epoch, number = ([None, None] + [int(number) for number in numbers])[-2:]
    return author, epoch, number


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"a number of messages, not {text!r}")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] == [RUN]:
        return _run(words[1:])
    if words[:1] == [DEMO]:
        os.execv(sys.executable, [sys.executable, "-m", "twisted_mesh.demo", *words[1:]])
    if words[:1] == [completion.COMPLETE]:
        for word in completion.complete(parser(), words[1:]):
            print(word)
        return verbs.YES
    mesh = parser()
    if not words:
        mesh.print_help(sys.stderr)
        return NO_NODE
    options = mesh.parse_args(words)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # whatever the locale, and whatever others write
    if hasattr(options, "action"):
        return trust_files.run(options)
    if not hasattr(options, "verb"):
        mesh.error(f"{RUN} and {DEMO} are the first word: they ask no node, and take no --node")
    verb: verbs.Verb = options.verb
    if getattr(options, "consumer", None) is not None and getattr(options, "since", None) is not None:
        options.wrong("--since is for messages without a consumer: --start says where a new one begins")
    is_guest = guest.check(options)
    try:
        if is_guest:
            with guest.joined(options) as client:
                return verb(client, options)
        return verb(the_node(options.node, os.environ, options.token), options)
    except Failed as error:
        print(f"mesh: {error.shown()}", file=sys.stderr)
        return NO_NODE if error.status is None else verbs.NO
    except BrokenPipeError:  # as behind `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is still to be flushed
        return verbs.YES
    except OSError as error:
        print(f"mesh: cannot write: {error.strerror}", file=sys.stderr)
        return NO_NODE
    except KeyboardInterrupt:
        is_endless = getattr(options, "watch", False) or (verb is verbs.listen and options.count is None)
        return verbs.YES if is_endless else INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())

"""The tables that the verbs of ``mesh`` print.

Contract: what the node says of others is text, and moves no cursor.  On a terminal a table fits its width;
in a pipe nothing is cut.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from twisted_mesh.cli.shown import duration, round_trip, size, tags
from twisted_mesh.escaping import for_terminal, name_of

_PIPE_WIDTH: Final = 250  # characters of a line that goes into a pipe: nothing is cut there (guess)


def show(options: Namespace, read: Callable[[], Any], table: Callable[[Any], Iterator[Any]]) -> None:
    """Print the table of a value once, or again each second with ``--watch``."""
    watches = getattr(options, "watch", False)
    if options.json:
        print(json.dumps(read()), flush=True)
        while watches:
            time.sleep(1)
            print(json.dumps(read()), flush=True)
        return
    from rich.console import Console, Group

    is_terminal = sys.stdout.isatty()
    console = Console(width=None if is_terminal else _PIPE_WIDTH, highlight=False, markup=False)
    while not watches or not is_terminal:
        with console.capture() as printed:
            for part in table(read()):
                console.print(part, soft_wrap=isinstance(part, str) and not is_terminal)
        print(*(line.rstrip() for line in printed.get().splitlines()), sep="\n", flush=True)
        if not watches:
            return
        time.sleep(1)
    from rich.live import Live

    with Live(Group(*table(read())), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(1)
            live.update(Group(*table(read())), refresh=True)


def _table(*columns: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        is_number = column.startswith(">")
        table.add_column(column.lstrip(">"), justify="right" if is_number else "left", overflow="fold")
    return table


def status(status: Any) -> Iterator[Any]:
    node, history = status["node"], status["history"]
    states = [member["state"] for member in status["members"]]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    missing = sum(author["missing"] for author in status["authors"])
    untaken = sum(author["head"] - author["taken"] for author in status["authors"])
    table = _table("", "")
    table.show_header = False
    for what, told in (
        ("node", for_terminal(node["label"] or "without a label")),
        ("id", node["id"]),
        ("subnet", f"{node['subnet']} ({node['encryption']})"),
        ("trusts", node["trust"]),
        ("up for", duration(node["uptime_seconds"])),
        ("listens on", ", ".join(node["addresses"]) or "nothing: it only dials"),
        ("others dial", node["told_address"] or "nothing"),
        ("neighbours", str(len(status["links"]))),
        ("members", counts or "none but this node"),
        ("messages", f"{node['messages_sent']:,} sent, {missing:,} missing, {untaken:,} not taken"),
        ("receipts", _open(len(status["receipts"]))),
        ("consumers", ", ".join(map(_consumer, status["consumers"])) or "none with a name"),
        ("history", f"{size(history['memory_bytes'])} in memory, {_file(history)}"),
    ):
        table.add_row(what, told)
    yield table
    for warning in status["warnings"]:
        yield f"! {for_terminal(warning)}"


def _open(receipts: int) -> str:
    return (
        f"{receipts} open: mesh receipts says who has not taken the messages"
        if receipts
        else "none is open"
    )


def _consumer(consumer: Any) -> str:
    told = f"{for_terminal(consumer['name'])} ({consumer['lag']:,} not taken)"
    return told if consumer["open"] else f"{told}, which nobody has open"


def _file(history: Any) -> str:
    return "no file" if history["file"] is None else f"{size(history['file_bytes'])} in {history['file']}"


def members(members: Any) -> Iterator[Any]:
    table = _table("MEMBER", "STATE", ">SINCE", "ADDRESS", "TAGS")
    now = time.time()
    for member in sorted(members, key=lambda member: (member["label"] or "", member["id"])):
        table.add_row(
            name_of(member["id"], member["label"]),
            member["state"],
            duration(now - member["since_unix_seconds"]),
            member["address"] or "-",
            tags(member["tags"]),
        )
    yield table if members else "no other member"


def pongs(pongs: Any) -> Iterator[Any]:
    table = _table("MEMBER", "STATE", ">HOPS", ">RTT", "")
    for pong in sorted(pongs, key=lambda pong: (pong["label"] or "", pong["id"])):
        table.add_row(
            name_of(pong["id"], pong["label"]),
            pong["state"],
            "-" if pong["hops"] is None else f"{pong['hops']}",
            round_trip(pong["round_trip_seconds"]),
            for_terminal(pong["error"] or ""),
        )
    yield table if pongs else "no other member"


def links(links: Any) -> Iterator[Any]:
    table = _table("NEIGHBOUR", "ADDRESS", "DIR", ">RTT", ">IN", ">OUT", ">QUEUED", ">UP FOR")
    for link in links:
        table.add_row(
            name_of(link["peer"], link["label"]),
            link["remote_address"],
            "out" if link["outgoing"] else "in",
            round_trip(link["round_trip_seconds"]),
            size(link["received_bytes"]),
            size(link["sent_bytes"]),
            size(link["queued_bytes"]),
            duration(link["up_seconds"]),
        )
    yield table if links else "no link"


def history(runs: Any) -> Iterator[Any]:
    table = _table("AUTHOR", ">FIRST", ">LAST", ">SIZE", ">OLDEST", ">NEWEST")
    newest = _newest(runs)
    for run in sorted(runs, key=lambda run: run["newest_seconds"] or 0.0):
        table.add_row(
            _run(run, newest),
            f"{run['first']:,}",
            f"{run['last']:,}",
            size(run["bytes"]),
            *(
                "-" if age is None else duration(age)
                for age in (run["oldest_seconds"], run["newest_seconds"])
            ),
        )
    yield table if runs else "no messages are held"


def authors(authors: Any) -> Iterator[Any]:
    table = _table("AUTHOR", ">LAST", ">MISSING", ">NOT TAKEN")
    newest = _newest(authors)
    for author in authors:
        table.add_row(
            _run(author, newest),
            f"{author['head']:,}",
            f"{author['missing']:,}",
            f"{author['head'] - author['taken']:,}",
        )
    yield table if authors else "no messages are held"


def _newest(runs: Any) -> dict[str, int]:
    """The epoch of each author's newest run, by id."""
    return {run["id"]: run["epoch"] for run in sorted(runs, key=lambda run: int(run["epoch"]))}


def _run(run: Any, newest: Mapping[str, int]) -> str:
    """The author of a *run*, and whether it has begun a newer run since."""
    earlier = "" if run["epoch"] == newest[run["id"]] else ", earlier run"
    return name_of(run["id"], run["label"]) + earlier


def lags(nodes: Any, known: Mapping[str, Any]) -> Iterator[Any]:
    table = _table("MEMBER", "STATE", ">SINCE", ">MISSING", ">NOT TAKEN")
    own, *others = nodes
    for node in (own, *sorted(others, key=lambda node: (node["label"] or "", node["id"]))):
        member = known.get(node["id"])
        table.add_row(
            name_of(node["id"], node["label"]),
            "this node" if node is own else node["state"] if member is None else _state(node, member),
            "-" if member is None else duration(time.time() - member["since_unix_seconds"]),
            *("-" if node[count] is None else f"{node[count]:,}" for count in ("missing", "untaken")),
        )
    yield table


def _state(node: Any, member: Any) -> str:
    """The state of a *member* that was asked; one that is up may have said nothing."""
    state: str = member["state"]
    return "no answer" if state == "up" and node["state"] == "silent" else state

"""What the verbs of ``mesh`` print about the node of this machine.

Contract: a verb prints a table or lines, or with ``--json`` the node's answer as it is.  Its result is the
exit status: 0 for yes or done, 1 for no.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlencode

from twisted_mesh.cli import tables
from twisted_mesh.cli.client import Client, Event, Failed
from twisted_mesh.cli.shown import duration, packets, when
from twisted_mesh.cli.tree import has_everybody, tree
from twisted_mesh.escaping import for_terminal, name_of
from twisted_mesh.grammar import counted

_LONGEST: Final = 600.0  # seconds that the node may wait by itself for a member's acknowledgement (guess)
Verb = Callable[[Client, Namespace], int]
YES: Final = 0
NO: Final = 1
_TRACED_AFTER: Final = 5.0  # seconds at most until a message that was sent is traced (guess)
_REASONS_WITHIN: Final = 2.0  # seconds for members that have not taken a message to say why (guess)
_TEXTS: Final = 1000  # own messages that are looked at for their texts, the newest (guess)
_TEXT: Final = 100  # characters of a message that are shown with its receipt (guess)
_SLACK: Final = 5.0  # seconds that the node's answer may take beyond the time that it waits itself (guess)


def status(client: Client, options: Namespace) -> int:
    """Show the node, and what is wrong with it."""
    tables.show(options, lambda: client.get("/status"), tables.status)
    return YES


def members(client: Client, options: Namespace) -> int:
    """Show the other members."""
    tables.show(options, lambda: client.get("/members"), tables.members)
    return YES


def links(client: Client, options: Namespace) -> int:
    """Show the links of the node."""
    tables.show(options, lambda: client.get("/links"), tables.links)
    return YES


def authors(client: Client, options: Namespace) -> int:
    """Show of each author how far its messages have come."""
    tables.show(options, lambda: client.get("/authors"), tables.authors)
    return YES


def health(client: Client, options: Namespace) -> int:
    """Say whether the node has joined: status 0 if so."""
    try:
        answer = client.get("/readyz")
    except Failed as error:
        if error.status is None:
            raise
        told = (
            json.dumps({"error": str(error)}) if options.json else f"not ready: {for_terminal(str(error))}"
        )
        print(told)
        return NO
    if options.json:
        print(json.dumps(answer))
    else:
        print(*map(for_terminal, answer["warnings"] or ["ready"]), sep="\n")
    return YES


def page(client: Client, options: Namespace) -> int:
    """Print the address of the node's page, for a browser."""
    told = client.get("/page")
    print(json.dumps(told) if options.json else "\n".join(told["addresses"]))
    return YES


def send(client: Client, options: Namespace) -> int:
    """Send a message to everybody, or to one member."""
    if options.trace:
        return _sent_and_traced(client, options)
    if options.wait and options.to is None:
        number, answer = _sent_with_receipt(client, options)
        if not options.json:
            return _told_who_has_it(client, number, answer)
        print(json.dumps(answer))
        return YES if answer["complete"] else NO
    body = {"to": options.to, **_message(options)}
    if options.to is None and not options.peer:  # a guest ends at once, and hears of no receipt
        body["receipt"] = True
    answer = client.post("/send", body, options.wait + _SLACK if options.wait else _LONGEST)
    if options.json:
        print(json.dumps(answer))
    elif options.to is not None:
        print(f"{name_of(answer['member'], answer['label'])} has it")
    else:
        print("sent" if answer["neighbours"] else "sent, but the node has no neighbour yet")
    return YES


def _sent_with_receipt(client: Client, options: Namespace) -> tuple[int, Any]:
    """Send a message to everybody, and wait until all have it; after Ctrl-C, say who has it so far.

    Return the number of the receipt, and who has the message.
    """
    body = {**_message(options), "wait_seconds": 0, "receipt": True}
    number = client.post("/send", body, _SLACK)["receipt"]
    try:
        return number, _receipt(client, number, options.wait)
    except KeyboardInterrupt:
        so_far = _receipt(client, number)
        if options.json:
            print(json.dumps(so_far))
        else:
            print(*_who_has_it(so_far, _members_by_id(client), {}), sep="\n")
        raise


def _sent_and_traced(client: Client, options: Namespace) -> int:
    """Send a message to everybody, and show by which way it went."""
    if options.to is not None:
        raise Failed("--trace is for messages to everybody, not --to one member")
    options.wait = options.wait or _TRACED_AFTER
    number, receipt = _sent_with_receipt(client, options)
    author = client.get("/status")["node"]["id"]
    id = (author, receipt["epoch"], receipt["sequence"])
    told = _trace(client, options, *id, _REASONS_WITHIN)  # who has it will answer soon
    receipt = _with_own_words(_receipt(client, number), told["steps"])
    return YES if receipt["complete"] and has_everybody(told) else NO


def request(client: Client, options: Namespace) -> int:
    """Send a message to one member, and print its answer."""
    body = {"to": options.to, **_message(options)}
    answer = client.post("/request", body, options.wait + _SLACK)
    print(json.dumps(answer) if options.json else _answer(answer))
    return YES


def query(client: Client, options: Namespace) -> int:
    """Send a message to everybody, and print the answers."""
    told = client.post("/query", _message(options), options.wait + _SLACK)
    pending, left_out = told["pending"], told["left_out"]
    if options.json:
        print(json.dumps(told))
        return NO if pending or left_out else YES
    for answer in told["answers"]:
        print(_answer(answer))
    for each in pending:
        print(f"{name_of(each['id'], each['label'])} has not answered")
    if left_out:
        print(f"mesh: {counted(left_out, 'answer')} found no room", file=sys.stderr)
    if not told["answers"] and not pending:
        print("no other member is up")
    return NO if pending or left_out else YES


def ping(client: Client, options: Namespace) -> int:
    """Show which members answer, and how fast."""
    body = {"to": options.to, "wait_seconds": options.wait}
    pongs = client.post("/ping", body, options.wait + _SLACK)
    tables.show(options, lambda: pongs, tables.pongs)
    return NO if any(pong["error"] for pong in pongs) else YES


def trace(client: Client, options: Namespace) -> int:
    """Show by which way a message came to each node."""
    author, epoch, sequence = options.message
    told = _trace(client, options, author, epoch, sequence, options.wait, epoch)
    return YES if has_everybody(told) else NO


def _trace(
    client: Client,
    options: Namespace,
    author: str,
    epoch: int | None,
    sequence: int | None,
    wait: float,
    run: int | None = None,
) -> Any:
    """Draw the way of a message, and return it; *run* is as for :func:`tree`."""
    body = {"author": author, "epoch": epoch, "sequence": sequence, "wait_seconds": wait}
    told = client.post("/trace", body, wait + _SLACK)
    if options.json:
        print(json.dumps(told))
    else:
        since = {id: _for_how_long(member) for id, member in _members_by_id(client).items()}
        print(*tree(told, run, since), sep="\n")
    return told


def lag(client: Client, options: Namespace) -> int:
    """Show of each node how many messages it lacks."""
    nodes: list[Any] = []

    def ask() -> Any:
        nodes[:] = client.post("/lag", {"wait_seconds": options.wait}, options.wait + _SLACK)
        return nodes

    tables.show(options, ask, lambda nodes: tables.lags(nodes, _members_by_id(client)))
    return YES if all(node["missing"] == node["untaken"] == 0 for node in nodes) else NO


def receipts(client: Client, options: Namespace) -> int:
    """Show which members have not taken the messages that this node sent with receipts, and why."""
    told = client.get("/receipts")
    if options.json:
        print(json.dumps(told))
        return NO if told else YES
    known = _members_by_id(client)
    told = [receipt | _all_named(known, receipt) for receipt in reversed(told)]
    reasons: dict[str, str] = {}
    if told:  # of the newest alone: they take seconds if one is silent
        newest = told[0]
        steps = _steps(client, newest, known)
        told[0] = _with_own_words(newest, steps)
        if told[0]["complete"]:
            del told[0]
        else:
            reasons = _reasons(steps)
    shown = told[: options.count]
    texts = _own_texts(client, shown[-1]["sequence"]) if shown else {}
    for receipt in shown:
        first, *others = _who_has_it(receipt, known, reasons)
        reasons = {}
        text = texts.get((receipt["epoch"], receipt["sequence"]), "")
        print(f"message {receipt['sequence']:,}{text}", f"  {first}", *others, sep="\n")
    if (further := len(told) - options.count) > 0:
        print(f"and {counted(further, 'older message')}")
    if not told:
        print("no receipt is open: all members have each message that was sent with one")
    return NO if told else YES


def _own_texts(client: Client, first: int) -> dict[tuple[int, int], str]:
    """When the node sent its messages from number *first* on, and their texts, by epoch and number."""
    node = client.get("/status")["node"]
    count = min(_TEXTS, max(1, node["messages_sent"] - first + 1))
    texts: dict[tuple[int, int], str] = {}
    for event in client.events(f"/messages?{urlencode({'author': node['id'], 'count': count})}", None):
        if event.name != "message":
            break  # it is the last that is held, or the history cannot be read
        data = event.data
        text = packets(data["packets"])[:_TEXT]
        texts[data["epoch"], data["sequence"]] = f", {when(data['time'])}: {text}"
    return texts


def forget(client: Client, options: Namespace) -> int:
    """Have all nodes forget a member that is down or has left, or this node a consumer with a name."""
    if options.consumer is not None:
        answer = client.post("/forget", {"consumer": options.consumer}, _SLACK)
        told = f"the consumer {for_terminal(options.consumer)} is forgotten"
    else:
        answer = client.post("/forget", {"member": options.member}, _SLACK)
        told = f"{name_of(answer['id'], answer['label'])} is forgotten"
    print(json.dumps(answer) if options.json else told)
    return YES


def _message(options: Namespace) -> dict[str, Any]:
    return {"packets": options.text, "type": options.type, "wait_seconds": options.wait}


def _answer(answer: Any) -> str:
    return f"{name_of(answer['id'], answer['label'])}: {packets(answer['packets'])}"


def listen(client: Client, options: Namespace) -> int:
    """Print messages as they come."""
    if options.consumer is not None:
        arguments = {"consumer": options.consumer, "start": options.start}
    else:
        arguments = {} if options.since is None else {"since": options.since}
    left = options.count
    if sys.stdout.isatty():
        print("mesh: messages of other nodes; those that this node sends are not shown", file=sys.stderr)
    for event in _named_events(client, arguments, options.seconds):
        if event.name != "message":
            continue
        _print_message(event.data, options)
        if options.consumer is not None and event.id:
            client.post("/ack", {"consumer": options.consumer, "id": event.id}, _SLACK)
        if left is not None and (left := left - 1) <= 0:
            return YES
    return YES if left is None else NO


def _print_message(data: Any, options: Namespace) -> None:
    told = f"{data['from']}: {packets(data['packets'])}"
    if options.since is not None:
        told = f"{when(data['time'])} {told}"
    print(json.dumps(data) if options.json else told, flush=True)


def _named_events(
    client: Client, arguments: Mapping[str, object], seconds: float | None
) -> Iterator[Event]:
    """The messages of the next *seconds*, with the names of their authors in ``from``, and other events."""
    labels: dict[str, str | None] = {}
    query = f"?{urlencode(arguments)}" if arguments else ""
    for event in client.events(f"/messages{query}", seconds):
        if event.name == "message":
            sender = event.data["sender"]
            if sender not in labels:
                labels.update({member["id"]: member["label"] for member in client.get("/members")})
            event.data["from"] = name_of(sender, labels.setdefault(sender, None))
        elif event.name == "missed":
            lost = counted(event.data["events"], "event")
            print(f"mesh: {lost} came too fast, or too large", file=sys.stderr)
        elif event.name == "failure":
            raise Failed(event.data["error"])
        yield event


def history(client: Client, options: Namespace) -> int:
    """Show the messages that the node holds: how many of each author, or those of one."""
    if options.author is None:
        if options.count or options.since:
            raise Failed(
                "--count and --since choose messages of one member: name it (all: mesh listen --since)"
            )
        tables.show(options, lambda: client.get("/history"), tables.history)
        return YES
    arguments = {"author": options.author, "count": options.count or 20, "since": options.since or "all"}
    is_there = False
    for event in client.events(f"/messages?{urlencode(arguments)}", None):
        if event.name == "failure":
            raise Failed(event.data["error"])
        if event.name == "now":
            break
        is_there, data = True, event.data
        told = f"{data['sequence']:>7,}  {when(data['time'])}  {packets(data['packets'])}"
        print(json.dumps(data) if options.json else told, flush=True)
    if not is_there:
        print("mesh: no message of that author is held", file=sys.stderr)
    return YES if is_there else NO


# ── who has a message ────────────────────────────────────────────────────────────────


def _members_by_id(client: Client) -> dict[str, Any]:
    return {member["id"]: member for member in client.get("/members")}


def _for_how_long(member: Any) -> str:
    """For how long a member has its state."""
    return duration(time.time() - member["since_unix_seconds"])


def _named(known: Mapping[str, Any], node_id: str) -> dict[str, Any]:
    return {"id": node_id, "label": known[node_id]["label"] if node_id in known else None}


def _all_named(known: Mapping[str, Any], receipt: Any) -> dict[str, Any]:
    """The members of a receipt that have not got its message, with their labels."""
    return {
        field: [_named(known, node_id) for node_id in receipt[field]] for field in ("missed", "pending")
    }


def _receipt(client: Client, number: int, wait: float = 0.0) -> Any:
    """Who has the message that was sent with receipt *number*, once all have it or after the wait."""
    return client.post("/receipt", {"receipt": number, "wait_seconds": wait}, wait + _SLACK)


def _told_who_has_it(client: Client, number: int, receipt: Any) -> int:
    """Print how many members have a message, and why the others do not."""
    known = _members_by_id(client)
    steps = _steps(client, receipt, known)
    if steps:  # others may have got it while these were asked
        receipt = _with_own_words(_receipt(client, number), steps)
    print(*_who_has_it(receipt, known, _reasons(steps)), sep="\n")
    return YES if receipt["complete"] else NO


def _with_own_words(receipt: Any, steps: Any) -> Any:
    """*receipt* with the members that have the message as they say now, though it has not told so yet."""
    taken = {step["id"] for step in steps if step["state"] == "came" and step["taken"]}
    now = [each for each in receipt["pending"] if each["id"] in taken]
    delivered = [*receipt["delivered"], *now]
    pending = [each for each in receipt["pending"] if each["id"] not in taken]
    complete = receipt.get("complete") or (bool(now) and not (pending or receipt["missed"]))
    return receipt | {"delivered": delivered, "pending": pending, "complete": complete}


def _who_has_it(receipt: Any, known: Mapping[str, Any], reasons: Mapping[str, str]) -> Iterator[str]:
    """How many members have a message, and why the others do not.

    :param known: the members by id; :param reasons: of those that are up, by id.
    """
    delivered, others = receipt["delivered"], [*receipt["pending"], *receipt["missed"]]
    total = len(delivered) + len(others)
    yield f"{len(delivered)} of {counted(total, 'member')} {'has' if total == 1 else 'have'} it"
    for each in others:
        member = known.get(each["id"])
        why = "unknown"
        if member is not None:
            why = f"{member['state']} for {_for_how_long(member)}"
            if member["state"] == "up" and each["id"] in reasons:
                why = f"{why}, {reasons[each['id']]}"
        missed = ", no longer waited for" if each in receipt["missed"] else ""
        if (asker := each.get("forgotten_by")) is not None:
            why = f"forgotten, as {name_of(asker['id'], asker['label'])} asked"
        yield f"  {name_of(each['id'], each['label'])}: {why}{missed}"
    if not delivered and not others:
        yield f"  {for_terminal(receipt.get('error') or 'no other member is known')}"


def _steps(client: Client, receipt: Any, known: Mapping[str, Any]) -> list[Any]:
    """What all say of a message of the node, if members that are up have not taken it."""
    if not any(known.get(each["id"], {}).get("state") == "up" for each in receipt["pending"]):
        return []
    author = client.get("/status")["node"]["id"]
    body = {
        "author": author,
        "epoch": receipt["epoch"],
        "sequence": receipt["sequence"],
        "wait_seconds": _REASONS_WITHIN,
    }
    try:
        steps: list[Any] = client.post("/trace", body, _REASONS_WITHIN + _SLACK)["steps"]
    except Failed:  # others ask for so much that there is no room for this
        return []
    return steps


def _reasons(steps: list[Any]) -> dict[str, str]:
    """Why members have not taken a message, by id."""
    return {step["id"]: _reason(step) for step in steps}


def _reason(step: Any) -> str:
    match step["state"]:
        case "came":
            return "but its application has not taken it yet"
        case "missing":
            return "but the message has not come there"
        case "silent":
            return "but it does not answer"
        case _:
            return "and does not say whether it has it"

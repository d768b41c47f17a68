"""Draws by which way a message came to the nodes of a mesh, as each node says for itself.

Contract: the steps are claims.  Each node is drawn once: below the node that brought it the message, as it
says, if that leads back to the author or to a node that says nothing of it; else apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from twisted_mesh.escaping import name_of

_APART: Final = {
    "came": "by a way that leads nowhere, as its nodes tell it",
    "forgotten": "has it, or will not get it; by which way, it does not remember",
    "missing": "has not got it",
    "silent": "did not answer",
    "down": "is down",
    "listens": "may only listen, and is not asked",
}
_UNKNOWN: Final[Mapping[str, str]] = {}
_UNHEARD: Final = ("silent", "down", "listens")  # the states of nodes that have said nothing


def tree(trace: Any, run: int | None = None, since: Mapping[str, str] = _UNKNOWN) -> Iterator[str]:
    """The lines of the drawing of a *trace*, as ``POST /trace`` gives it.

    :param run: the epoch of the message's run, if that was asked for; None if it is the author's newest.
    :param since: for how long each member has its state, by id.
    """
    steps = {step["id"]: step for step in trace["steps"]}
    author = steps.pop(trace["author"], {"id": trace["author"], "label": None, "state": "author"})
    # An author that has restarted may not know its earlier runs, and others do.
    if not {author["state"], *(step["state"] for step in steps.values())} & {"came", "forgotten"}:
        yield from _known_to_nobody(trace, author, steps.values(), run)
        return
    children: dict[str, list[Any]] = {}
    for step in sorted(steps.values(), key=lambda step: (step["label"] or "", step["id"])):
        if step["state"] == "came" and step["source"] is not None:
            children.setdefault(step["source"], []).append(step)
    yield f"{name_of(author['id'], author['label'])}: message {trace['sequence']:,}"
    drawn = {author["id"]}
    yield from _below(author["id"], children, drawn, "")
    for step in steps.values():
        if step["state"] != "came":
            drawn.add(step["id"])
            told = _APART.get(step["state"], step["state"])
            if step["state"] == "down" and step["id"] in since:
                told += f" for {since[step['id']]}"
            yield f"{name_of(step['id'], step['label'])}: {told}"
            yield from _below(step["id"], children, drawn, "")
    for stranger in sorted(children.keys() - steps.keys() - drawn):
        yield f"{name_of(stranger, None)}: was not asked"
        yield from _below(stranger, children, drawn, "")
    for step in steps.values():
        if step["id"] not in drawn:
            yield f"{name_of(step['id'], step['label'])}: {_APART['came']}"


def has_everybody(trace: Any) -> bool:
    """Whether all nodes that may say so say that the message came to them."""
    return all(step["state"] in ("came", "listens") for step in trace["steps"])


def _known_to_nobody(trace: Any, author: Any, others: Iterable[Any], run: int | None) -> Iterator[str]:
    """Say of a message that no node has, and none had, what its author says of it."""
    name, number = name_of(author["id"], author["label"]), f"message {trace['sequence']:,}"
    if author["state"] == "missing":
        where = "" if run is None else f" in its run {run}, or does not know that run any more"
        yield f"{name} has sent no {number}{where}"
        return
    why = f", which {_APART[author['state']]}" if author["state"] in _UNHEARD else ""
    yield f"no node that answered knows a {number} of {name}{why}"
    for step in others:
        if step["state"] != "missing":
            yield f"{name_of(step['id'], step['label'])}: {_APART.get(step['state'], step['state'])}"


def _below(node_id: str, children: dict[str, list[Any]], drawn: set[str], indent: str) -> Iterator[str]:
    """The lines of the nodes to which *node_id* brought the message, and of those behind them."""
    waiting = [(indent, children.get(node_id, []), 0)]
    while waiting:
        indent, steps, at = waiting.pop()
        if at == len(steps):
            continue
        waiting.append((indent, steps, at + 1))
        step, is_last = steps[at], at == len(steps) - 1
        if step["id"] in drawn:
            continue
        drawn.add(step["id"])
        how = "repaired" if step["repaired"] else "pushed"
        name = name_of(step["id"], step["label"])
        yield f"{indent}{'└─' if is_last else '├─'} {name}: {how}, {_hops(step)}{_when(step)}"
        further = indent + ("   " if is_last else "│  ")
        waiting.append((further, children.get(step["id"], []), 0))


def _hops(step: Any) -> str:
    hops = step["hops"] + 1
    return f"{hops} hop{'' if hops == 1 else 's'}"


def _when(step: Any) -> str:
    if step["held_seconds"] is not None:
        return f", taken after {step['held_seconds'] * 1000:,.0f} ms"
    return ", taken" if step["taken"] else ", not taken yet"

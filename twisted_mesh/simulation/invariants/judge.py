"""Checks of a world at rest, that is, when no frame is under way and nobody waits for a repair.

Contract: each function changes nothing but the world's list of violations.  The promises that must hold at
every moment (once, in order, no false gap) are checked while the world runs.
"""

from __future__ import annotations

from twisted_mesh.core.history.stream import BEYOND_ALL
from twisted_mesh.simulation.member import Member
from twisted_mesh.simulation.trace import show
from twisted_mesh.simulation.world import World
from twisted_mesh.wire.fields import MAX_NUMBER


def check_at_rest(world: World) -> None:
    """Check that neighbours hold the same, that no hole is left, and that held messages were delivered."""
    authors = _Authors(world)
    for member in world.honest():
        for link in member.links.values():
            other = link.other(member)
            if not other.lies:
                _compare(world, authors, member, other)
        for stream in member.node.history:
            if stream.run[0] == member.origin or stream.equivocated:
                continue
            if stream.batches.first_waiting is not None:
                world.violated(member, "stalls", f"a hole in {show(stream.run)}")
            if max(member.delivered.get(stream.run, 0), stream.base) < stream.head:
                world.violated(member, "missed", f"{show(stream.run)} is held but not delivered")
            # A run that had ended before the member joined, and that its first neighbour did not have, is
            # held for others alone.
            is_over = stream.base == BEYOND_ALL and member.node.history.past.had_ended(stream.run)
            replays = member.replay == MAX_NUMBER and not is_over
            if replays and stream.low <= min(stream.base, stream.head):
                world.violated(member, "missed", f"the replay of {show(stream.run)}")


def check_complete(world: World) -> None:
    """Check that every honest member has all messages of the honest members that are up.

    If an author was down for a time, only the messages that it had stored before must be there.
    """
    honest = world.honest()
    for author in honest:
        sent = {run: head for run, head in world.kept.items() if run[0] == author.origin}
        sent[author.run] = world.published.get(author.run, 0)
        for member in honest if any(sent.values()) else ():
            for run, head in sent.items():
                has = member.node.history.head(run)
                if member is not author and has < head:
                    what = f"{has} of {head} of {show(run)}, node {author.number}"
                    world.violated(member, "missed", what)


def is_waiting(world: World) -> bool:
    """Whether an honest member still has a hole that is neither filled nor told as a gap."""
    streams = (stream for member in world.honest() for stream in member.node.history)
    return any(stream.batches.first_waiting is not None for stream in streams)


class _Authors:
    """The authors whose messages neighbours must both hold; minted ones are not among them.

    :ivar honest: the honest members; :ivar lies: the adversaries, but for the unreliable ones.
    """

    def __init__(self, world: World) -> None:
        self.honest = {author.origin for author in world.members if not author.lies}
        self.lies = {a.origin for a in world.members if a.lies and not a.unreliable}


def _compare(world: World, authors: _Authors, member: Member, other: Member) -> None:
    """Check that *member* has all messages that its neighbour *other* has."""
    for stream in other.node.history:
        mine = member.node.history.get(stream.run)
        if stream.run[0] not in authors.honest and (stream.run[0] not in authors.lies or mine is None):
            continue  # the stream was closed, and with it the note that its author signed two messages
        if stream.equivocated or (mine is not None and mine.equivocated):
            continue  # its author signed two messages under one number: nobody pulls them
        has = member.node.history.head(stream.run)
        # Lost messages raise the heads of only those members that had heard of them.
        if has < stream.head and any(stream.serve(has + 1, stream.head, 1)):
            what = f"{show(stream.run)} at {has}, neighbour {other.number} at {stream.head}"
            world.violated(member, "missed", what)

"""What must be true of a world that has come to rest.

Contract: pure looking; each function notes what is broken in the world's violations.  What must be true
at every moment (once, in order, no false gap) the world's members watch themselves.
"""

from __future__ import annotations

from twisted_mesh.simulation.member import Member
from twisted_mesh.simulation.trace import show
from twisted_mesh.simulation.world import World
from twisted_mesh.wire.fields import MAX_NUMBER


def check_at_rest(world: World) -> None:
    """Neighbours have the same, no hole is left, what is held was delivered."""
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
            if member.replay == MAX_NUMBER and stream.low <= min(stream.base, stream.head):
                world.violated(member, "missed", f"the replay of {show(stream.run)}")


def check_complete(world: World) -> None:
    """Every honest member has everything the honest members that are up have sent.

    Of what those sent before they went down it has what they had stored.
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
    """Whether anyone honest still waits for a hole to be filled, or for its patience to be over."""
    streams = (stream for member in world.honest() for stream in member.node.history)
    return any(stream.batches.first_waiting is not None for stream in streams)


class _Authors:
    """Whose messages are asked for: of made up authors some wait everywhere, and not the same ones.

    :ivar honest: and those of *lies*, of which the unreliable ones are left out.
    """

    def __init__(self, world: World) -> None:
        self.honest = {author.origin for author in world.members if not author.lies}
        self.lies = {a.origin for a in world.members if a.lies and not a.unreliable}


def _compare(world: World, authors: _Authors, member: Member, other: Member) -> None:
    """*member* has all that its neighbour *other* has."""
    for stream in other.node.history:
        mine = member.node.history.get(stream.run)
        if stream.run[0] not in authors.honest and (stream.run[0] not in authors.lies or mine is None):
            continue  # of its closed stream it is forgotten that an adversary had signed two things
        if stream.equivocated or (mine is not None and mine.equivocated):
            continue  # its author signed two things: pulled no more
        has = member.node.history.head(stream.run)
        # What was lost for all, with its author, is told to those alone who had heard of it from that.
        if has < stream.head and any(stream.serve(has + 1, stream.head, 1)):
            what = f"{show(stream.run)} at {has}, neighbour {other.number} at {stream.head}"
            world.violated(member, "missed", what)

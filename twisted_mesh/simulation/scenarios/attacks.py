"""Scenes in which adversaries attack the other members.

Contract: :data:`ATTACKS` has the scenes by name; the first members of each are adversaries.  Even so all
messages of honest members are delivered, rosters are right, honest nodes are one mesh, and no table is over
its limit.  A *minted* author is a key that an adversary made up.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import permutations
from math import log2

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import ForgetMember, SendDirect, SendDirects
from twisted_mesh.core.membership.roster import HEARSAY, State
from twisted_mesh.core.shares import LASTING, LATE
from twisted_mesh.simulation.adversaries.askers import Asker
from twisted_mesh.simulation.adversaries.identities import (
    Accuser,
    Claimer,
    Crowd,
    Flooder,
    Forger,
    Forgetter,
    Hoarder,
    MintedAccusers,
    Minter,
    Namer,
    Replayer,
    RoomTaker,
)
from twisted_mesh.simulation.adversaries.overlay import Besieger, Encircler, Misleader
from twisted_mesh.simulation.adversaries.receipts import MintedSenders
from twisted_mesh.simulation.adversaries.relays import Babbler
from twisted_mesh.simulation.adversaries.runs import Recorder
from twisted_mesh.simulation.bootstrap import bootstrap
from twisted_mesh.simulation.invariants.membership import patience
from twisted_mesh.simulation.member import Member
from twisted_mesh.simulation.scenarios.stage import FORMED, Scene, Stage, later
from twisted_mesh.wire.bodies import join_entries, pack_entry

ATTACKED = 30.0  # seconds in which members send messages; the attack goes on after them
FORGOTTEN = 10.0  # seconds for which members hold messages, if one alone holds them longer
VICTIM = "192.0.2.7"  # a host that has nothing to do with the mesh


def _attack(stage: Stage) -> None:
    """The adversaries attack while all members send messages."""
    world = stage.world
    stage.gather()
    stage.run(FORMED)
    stage.chat(ATTACKED, 2.0)
    stage.run(ATTACKED)
    stage.end(patience(world.config))
    _note_frames(stage)


def _replayed(stage: Stage) -> None:
    """Two members go and one joins, while adversaries send old records of those that went."""
    world = stage.world
    *members, first, second, newcomer = world.members
    stage.gather(members=[*members, first, second])
    stage.run(FORMED)
    stage.chat(ATTACKED, 2.0)
    later(world, 5.0, world.crash, first)
    later(world, 6.0, world.leave, second)
    later(world, 10.0, stage.gather, 1.0, [newcomer])
    stage.run(ATTACKED)
    stage.end(2 * patience(world.config))
    _note_frames(stage)


def _forgotten(stage: Stage) -> None:
    """Two members go and are forgotten, while adversaries ask to forget everybody; later one comes back."""
    world = stage.world
    *members, first, second = world.members
    stage.gather()
    stage.run(FORMED)
    stage.chat(ATTACKED, 2.0)
    later(world, 5.0, world.crash, first)
    later(world, 6.0, world.leave, second)
    stage.run(ATTACKED + patience(world.config))
    asker = next(member for member in members if not member.lies)
    for gone in (first, second):
        asker.handle(ForgetMember(gone.origin))
    stage.run(5.0)
    for member in world.honest():
        if first.origin in member.node.roster or second.origin in member.node.roster:
            world.violated(member, "rosters", "shows a member that was to be forgotten")
    stage.gather(members=[second])
    stage.run(5.0)
    stage.say()
    stage.end(patience(world.config))
    for member in world.honest():
        shown = member.node.roster.get(first.origin)
        # An adversary may name it to the newcomer, as it may name a made-up one.
        is_hearsay = member is second and shown and shown.state is State.DOWN and not shown.spoke_again
        if shown and not is_hearsay:
            world.violated(member, "rosters", "shows a forgotten member that has not come back")
    _note_frames(stage)


def _recorded(voids: bool, stage: Stage) -> None:
    """Adversaries send messages of ended runs again; a member that joins later must not get them.

    :param voids: whether the authors' newest records say that the ended runs are over for good.
    """
    world = stage.world
    *members, first, second = world.members
    authors = [member for member in members if not member.lies and member is not stage.contact][:3]
    stage.gather(members=members)
    stage.run(FORMED)
    for _ in range(3):
        stage.say(authors)
        stage.run(1.0)
    for author in authors:
        world.crash(author)
    stage.run(2 * world.config.history_seconds)
    for author in authors if voids else ():
        author.earlier = ()
    stage.gather(members=authors)
    stage.run(5.0)
    stage.say(authors)
    stage.run(5.0)
    ended = {author.origin: author.epoch for author in authors}
    bootstrap(world, [first], *(member for member in members if member.lies))
    later(world, 0.1, first.start)
    later(world, 5.0, stage.gather, 1.0, [second])
    stage.run(ATTACKED)
    stage.say()
    stage.end(patience(world.config))
    for member in world.honest():
        old = [run for run in member.delivered if run[1] < ended.get(run[0], 0)]
        if old and member in (first, second):
            world.violated(member, "duplicates", f"{len(old)} runs that had ended before it came")
        if voids and any(stream.run[1] < ended.get(stream.run[0], 0) for stream in member.node.history):
            world.violated(member, "limits", "holds messages of a run that is over for good")
    recorders = [member for member in members if isinstance(member, Recorder)]
    stage.note(f"{sum(member.repeated for member in recorders)} batches of ended runs were repeated")
    _note_frames(stage)


def _rewritten(stage: Stage) -> None:
    """Every member sends each other one a direct message, which must come once."""
    world = stage.world
    stage.gather()
    stage.run(FORMED)
    members = stage.members()
    for token, (member, reader) in enumerate(permutations(members, 2), 1):
        body = join_entries([pack_entry(2, [token])])
        event = SendDirects((SendDirect(token, reader.origin, body),))
        later(world, world.random.random(), member.handle, event)
    stage.chat(ATTACKED, 2.0)
    stage.run(ATTACKED)
    stage.end(patience(world.config))
    for member in members:
        letters = Counter((origin, packets[0]) for origin, packets in member.directs)
        twice = [token for (_, token), times in letters.items() if token and times > 1]
        if twice:
            world.violated(member, "directs", f"{len(twice)} came twice")
    minted = sum(member.minted for member in world.members if isinstance(member, Minter))
    came = sum(1 for member in members for _, packets in member.directs if packets[0])
    stage.note(f"{minted} authors minted; {came} direct messages came")
    _note_frames(stage)


def _flooded(stage: Stage) -> None:
    """A member is cut off while adversaries mint authors; when it returns, it must miss no message."""
    world = stage.world
    *_, away = world.members
    world.configs[away.number] = replace(world.config, history_bytes=64 * 2**20)
    stage.gather()
    stage.run(30.0)
    world.part(lambda member: member is away)
    stage.chat(10.0, 10.0)
    stage.run(ATTACKED)
    world.heal()
    stage.run(ATTACKED)
    stage.end(patience(world.config))
    minted = sum(member.minted for member in world.members if isinstance(member, Minter))
    honest = {member.origin for member in world.honest()}
    lost = sum(gap.last - gap.first + 1 for member, gap in world.gaps if gap.origin in honest)
    if lost:
        world.violated(away, "missed", f"{lost} messages were pushed out of every history")
    stage.note(f"{minted} authors minted")
    _note_frames(stage)


def _attack_late_members(stage: Stage, rate: float) -> None:
    """Let members that are busy form a mesh, and send *rate* messages a second during an attack."""
    for member in stage.world.members:
        member.late = 0.0 if member.lies else 2 * LATE
    stage.gather()
    stage.run(FORMED)
    stage.chat(ATTACKED, rate)
    stage.run(ATTACKED)


def _babbled(stage: Stage) -> None:
    """Adversaries publish much while all members are busy; their messages come when the others are done."""
    world = stage.world
    _attack_late_members(stage, 4.0)
    babblers = [member for member in world.members if isinstance(member, Babbler)]
    taken = max(member.node.head(babbler.run) for member in world.honest() for babbler in babblers)
    refused = min(member.node.counts["over_share"] for member in world.honest())
    stage.note(f"of {babblers[0].said} messages {taken} were taken by then, and {refused} or more refused")
    stage.shares = (taken, refused)
    stage.end(patience(world.config) + LASTING)
    for member in world.honest():
        for babbler in babblers:
            if member.node.head(babbler.run) < babbler.said:
                world.violated(member, "missed", "messages over their author's share never came")
    _note_frames(stage)


def _crowded(stage: Stage) -> None:
    """Adversaries mint authors while all members, which know nobody yet, are busy and send messages."""
    world = stage.world
    _attack_late_members(stage, 8.0)
    refused = max(member.node.counts["over_share"] for member in world.honest())
    slowest = max(world.latencies)
    stage.note(f"up to {refused} frames refused, and {slowest:.2f} s until a message was everywhere")
    stage.shares = (refused, slowest)
    stage.end(patience(world.config) + LASTING)


def _note_frames(stage: Stage) -> None:
    world = stage.world
    records = sum(world.kinds.get(kind, 0) for kind in ("Presence", "Suspect"))
    rate = world.frames / len(world.members) / world.now
    stage.note(f"{records} records and {world.frames} frames in all, {rate:.1f} a second and node")


def _claimed(stage: Stage) -> None:
    """A node joins through adversaries, which claim that its key has later runs."""
    world = stage.world
    *members, newcomer = world.members
    stage.gather(members=members)
    stage.run(FORMED)
    stage.chat(ATTACKED, 2.0)
    bootstrap(world, [newcomer], *(member for member in members if member.lies))
    later(world, 2.0, newcomer.start)
    stage.run(ATTACKED)
    stage.end(patience(world.config))
    renewals = max(member.renewals for member in world.honest())
    if renewals != 1:
        world.violated(newcomer, "limits", f"{renewals} runs were begun by claims")


def _named(stage: Stage) -> None:
    """All members ask for receipts, and wait for those of minted members for minutes, not a day."""
    world = stage.world
    stage.gather()
    stage.run(FORMED)
    stage.chat(ATTACKED, 2.0)
    stage.run(ATTACKED)
    members = stage.members()
    for member in members:
        member.publish("who has it?", asks=True)
    asked = {member: member.node.outbox.head for member in members}
    stage.run(5.0)
    held = [member.node.holders(sequence) for member, sequence in asked.items()]
    pending = max(len(holders.pending) for holders in held if holders is not None)
    stage.note(f"{pending} members that are not there were waited for")
    stage.end(patience(world.config) + world.config.ephemeral_memory + HEARSAY)
    for member, sequence in asked.items():
        holders = member.node.holders(sequence)
        if holders is None or holders.pending:
            world.violated(member, "receipts", "a member that is not there is waited for")
    _note_frames(stage)


def _hidden(stage: Stage) -> None:
    """A member was away; only one honest member still holds the messages that it missed."""
    world = stage.world
    *_, author, holder, away = world.members
    world.configs[holder.number] = world.config
    world.config = replace(world.config, history_seconds=FORGOTTEN)
    holder.retention = int(world.configs[holder.number].history_seconds)
    stage.gather()
    stage.run(FORMED)
    stage.chat(FORMED, 2.0)
    stage.run(2 * FORMED)
    world.part(lambda member: member is away)
    stage.run(2 * world.config.dead_after)
    stage.say(among=[author])
    stage.run(2 * FORGOTTEN)
    world.heal()
    stage.run(world.config.gap_patience)
    stage.end(patience(world.config))
    head = away.node.history.head(author.run)
    stage.note(f"{world.counts['gaps']} gaps were told, {head} messages came")
    if world.counts["gaps"]:
        world.violated(away, "false gaps", "an honest member has the messages")
    _note_frames(stage)


def _besieged(stage: Stage) -> None:
    """Many of one host surround a node, and then its other neighbours fail."""
    world = stage.world
    honest = [member for member in world.members if not member.lies]
    besieged = honest[-1]
    stage.gather(members=honest)
    stage.run(FORMED)
    besiegers = [member for member in world.members if isinstance(member, Besieger)]
    for besieger in besiegers:
        besieger.target = besieged
        later(world, world.random.random(), besieger.start)
    stage.run(2 * FORMED)
    for member in honest:
        if member.id in besieged.table:
            world.crash(member)
    stage.chat(ATTACKED, 20.0)
    stage.run(ATTACKED)
    neighbours = [link.other(besieged) for link in besieged.links.values()]
    honest_ones = sum(not member.lies for member in neighbours)
    stage.note(f"{len(neighbours) - honest_ones} besiegers and {honest_ones} others are neighbours")
    if world.counts["gaps"] or not honest_ones:
        world.violated(besieged, "false gaps", f"{world.counts['gaps']} were told")
    stage.end(patience(world.config))
    _note_frames(stage)


def _minted(stage: Stage) -> None:
    """Adversaries mint authors without end; the messages of a node that joins must come even so."""
    world = stage.world
    *members, newcomer = world.members
    stage.gather(members=members)
    stage.run(FORMED)
    stage.chat(ATTACKED, 2.0)
    later(world, 20.0, stage.gather, 1.0, [newcomer])
    stage.run(ATTACKED)
    stage.end(patience(world.config))
    minted = sum(member.minted for member in world.members if isinstance(member, Minter))
    largest = max(member.node.footprint()["roster"] for member in world.honest())
    waiting = max(member.node.counts["authors_waiting"] for member in world.honest())
    stage.note(f"{minted} authors minted, {largest} on the largest roster, {waiting} refused by one node")
    _note_frames(stage)


def _misled(stage: Stage) -> None:
    """Adversaries tell false addresses; count the dials of them."""
    _attack(stage)
    world = stage.world
    known = {member.host for member in world.members}
    honest = len(world.honest())
    dials = world.dials
    at_victim = sum(count for (host, _), count in dials.items() if host == VICTIM)
    astray = sum(count for (host, _), count in dials.items() if host not in known)
    stage.note(f"{honest} honest nodes in {world.now:.0f} s: {at_victim} dials of a victim, {astray} lost")
    for host, port in dials:
        if host.startswith(("127.", "169.254.", "fe80", "::1", "localhost", "0.", "224.", "no-")):
            world.violated(world.members[0], "limits", f"somebody dialled {host}:{port}")
    config, nodes = world.config, len(world.members)
    most = honest * (config.dial_burst + config.dial_rate * world.now)
    if astray > most:
        world.violated(world.members[0], "limits", f"{astray} dials to nowhere, of {most:.0f}")
    # Each node dials two places of it, one after dial_again, and one twice as late each further time.
    each = 2 + int(log2(1 + (world.now - Misleader.begins) / config.dial_again))
    if at_victim > nodes * each:
        world.violated(world.members[0], "limits", f"{at_victim} dials of a victim, of {nodes * each}")


def _surrounded(stage: Stage) -> None:
    """A node joins a mesh with 10 % adversaries: how many of its links and contacts are adversaries?"""
    world = stage.world
    *members, newcomer = world.members
    adversaries = [member for member in members if isinstance(member, Encircler)]
    for adversary in adversaries:
        adversary.band = list[Member](adversaries)
    stage.gather(members=members)
    stage.run(30.0)
    stage.gather(members=[newcomer])
    stage.run(60.0)
    ids = {adversary.id for adversary in adversaries}
    links = [id in ids for id in newcomer.table]
    passive = [contact.id in ids for contact in newcomer.contacts]
    fewest = min(sum(id not in ids for id in member.table) for member in world.honest())
    stage.note(
        f"adversaries are {sum(links)} of {len(links)} links, {sum(passive)} of {len(passive)} contacts of "
        f"the newcomer; of all honest nodes none has fewer than {fewest} honest links"
    )
    stage.shares = (sum(links) / max(len(links), 1), sum(passive) / max(len(passive), 1))
    stage.say()
    stage.end(5.0)


class ToOneVictim(Misleader):
    """Tells the address of one host only."""

    victim = VICTIM


#: Rosters are right after 45 s instead of 105.
BRISK = MeshConfig(presence_interval=10.0)
#: Nobody holds messages for long.
PASSING = replace(BRISK, history_seconds=5.0)
#: Few new authors are let in at a time.
FEW = replace(BRISK, authors_burst=64, authors_a_minute=60.0)
#: The roster is small: minted authors fill it in seconds.
FULL = replace(FEW, members_limit=128)
#: Roster and table of direct senders are small: minted authors push out all others in seconds.
FORGETFUL = replace(BRISK, authors_a_minute=6000.0, members_limit=64, direct_senders=96)

#: Memory is small: it holds a hundred messages of minted authors.
CRAMPED = replace(BRISK, history_bytes=256 * 1024, authors_a_minute=6000.0, known_after=20.0)

#: An author may bring few batches while others wait.
SHARED = replace(BRISK, known_batches=5.0, known_batches_burst=20)

ATTACKS = {
    "forged": Scene(_attack, 20, BRISK, kinds=(Forger, Forger)),
    "replayed": Scene(_replayed, 20, BRISK, kinds=(Replayer, Replayer)),
    "storm": Scene(_attack, 16, kinds=(Accuser,)),
    "minted-accusers": Scene(_attack, 16, replace(FEW, presence_interval=30.0), kinds=(MintedAccusers,)),
    "forgotten": Scene(_forgotten, 16, FEW, kinds=(Forgetter, Forgetter)),
    "minted": Scene(_minted, 16, FEW, kinds=(Minter,)),
    "babbled": Scene(_babbled, 12, SHARED, kinds=(Babbler,)),
    "crowded": Scene(_crowded, 12, BRISK, kinds=(Crowd,)),
    "flooded": Scene(_flooded, 16, CRAMPED, kinds=(Flooder, Flooder)),
    "full-roster": Scene(_minted, 16, FULL, kinds=(Minter,)),
    "held-roster": Scene(_minted, 16, replace(FULL, authors_a_minute=6000.0), kinds=(RoomTaker,)),
    "claimed-epochs": Scene(_claimed, 12, BRISK, kinds=(Claimer,) * 4),
    "besieged": Scene(_besieged, 45, BRISK, kinds=(Besieger,) * 25),
    "hidden-holder": Scene(_hidden, 30, BRISK, kinds=(Hoarder,)),
    "asked-again": Scene(_attack, 12, replace(BRISK, claims_in_all=500), kinds=(Asker, Asker)),
    "named": Scene(_named, 12, BRISK, kinds=(Namer, Namer)),
    "replayed-directs": Scene(_rewritten, 12, FORGETFUL, kinds=(MintedSenders, MintedSenders)),
    "ended-runs": Scene(partial(_recorded, False), 12, PASSING, kinds=(Recorder, Recorder)),
    "void-runs": Scene(partial(_recorded, True), 12, PASSING, kinds=(Recorder, Recorder)),
    "rubbish": Scene(_misled, 20, BRISK, kinds=(Misleader, Misleader)),
    "victim": Scene(_misled, 20, BRISK, kinds=(ToOneVictim, ToOneVictim)),
    "eclipse": Scene(_surrounded, 51, kinds=(Encircler,) * 5),
}


def _minted_many(most: int, stage: Stage) -> None:
    for member in stage.world.members:
        if isinstance(member, Minter):
            member.most = most
            member.each_time = most // 640
    _minted(stage)


ATTACKS["minted-100000"] = Scene(partial(_minted_many, 100_000), 16, BRISK, kinds=(Minter,), is_large=True)

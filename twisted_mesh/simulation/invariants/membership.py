"""Checks of the rosters: whether they agree with the members that are really up.

Contract: :class:`MembershipChecks` watches a world while it runs: no roster may show a member as down that
is up and linked.  :func:`check_membership` checks a world at rest: the members that are up are one mesh,
all have joined, every roster is right, and no table is over its limit.  Adversaries are not checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.overlay.dial_limit import SITES_MET
from twisted_mesh.core.overlay.tellers import TELLERS_MOST
from twisted_mesh.simulation.member import Member
from twisted_mesh.simulation.world import World
from twisted_mesh.wire.membership import Role


class MembershipChecks:
    """Watches in which state the rosters of a world show each member.

    :ivar wrongs: for each time that a roster showed a live member as down: the seconds until it was mended.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._origins = {member.origin: member for member in world.members}
        self._since: dict[tuple[Member, Member], float] = {}  # by viewer and live member: since when
        self.wrongs: list[float] = []
        world.changed = self._changed

    def _changed(self, viewer: Member, origin: bytes) -> None:
        subject = self._origins.get(origin)
        if subject is None or viewer.core is None or viewer.lies:
            return
        world = self._world
        entry = viewer.core.roster.get(origin)
        if entry is not None and entry.is_there:
            since = self._since.pop((viewer, subject), None)
            if since is not None:
                self.wrongs.append(world.now - since)
        elif subject.core is not None and not subject.lies and world.reaches(viewer, subject):
            self._since.setdefault((viewer, subject), world.now)
            if self._is_settled(viewer) and self._is_settled(subject):
                world.violated(viewer, "downs", f"shows {subject.number} as gone, which is there")

    def _is_settled(self, member: Member) -> bool:
        """Whether *member* has been linked for so long that all others must know it."""
        world = self._world
        # On an overloaded line records wait behind other frames.
        well = max(member.linked_since, world.healed, member.late_until)
        return well + patience(world.config) < world.now


def patience(config: MeshConfig) -> float:
    """Seconds after which every roster is right: until silence is noticed, and a suspicion is over."""
    return config.presence_missed * config.presence_interval + config.suspect_patience


def islands(members: Iterable[Member]) -> list[list[Member]]:
    """The groups of *members* that are connected by links in the routing table, the largest first."""
    left = {member.id: member for member in members}
    groups = []
    while left:
        _, first = left.popitem()
        group, todo = [first], [first]
        while todo:
            for id in todo.pop().table:
                other = left.pop(id, None)
                if other is not None:
                    group.append(other)
                    todo.append(other)
        groups.append(group)
    return sorted(groups, key=len, reverse=True)


def check_membership(world: World) -> None:
    """Check that honest members are one mesh, with right rosters, and every table within its limit."""
    honest = world.honest()
    for group in islands(honest)[1:]:
        world.violated(group[0], "islands", f"{len(group)} nodes are apart from the rest")
    members = [member for member in honest if member.role is Role.MEMBER]
    gone = [member for member in world.members if member.core is None]
    for viewer in honest:
        if not viewer.node.membership.joined:
            world.violated(viewer, "rosters", "has not joined")
        _check_roster(world, viewer, members, gone)
        _check_limits(world, viewer)


def _check_roster(world: World, viewer: Member, members: Sequence[Member], gone: Sequence[Member]) -> None:
    roster = viewer.node.roster
    for other in members:
        entry = roster.get(other.origin)
        if other is not viewer and (entry is None or not entry.is_there):
            shown = "not at all" if entry is None else f"as {entry.state.value}"
            world.violated(viewer, "rosters", f"shows {other.number}, which is there, {shown}")
    for other in gone:
        if roster.is_there(other.origin) and other.since + patience(world.config) < world.now:
            world.violated(viewer, "rosters", f"shows {other.number}, which is gone, as there")


def _check_limits(world: World, member: Member) -> None:
    footprint = member.node.footprint()
    for table, limit in limits(world.config_of(member.number), footprint["links"]).items():
        if footprint[table] > limit:
            world.violated(member, "limits", f"{footprint[table]} in {table}, of {limit}")


def limits(config: MeshConfig, links: int) -> dict[str, int]:
    """The limit of each table of a node with *links* links, by the table's name."""
    contacts = config.active_view + config.passive_view
    return {
        "links": config.links_limit,
        "snapshot_entries": config.claims_limit * links,
        "claims": config.claims_limit * links,
        "claims_in_all": config.claims_in_all,
        "known_records": config.claims_limit * links,
        "open_streams": config.open_streams,
        "closed_streams": config.closed_streams,
        "ended_authors": config.ended_limit,
        "floors": config.floors_limit,
        "held_bytes": config.history_bytes,
        "waiting_bytes": config.waiting_bytes,
        "unsent_bytes": config.unsent_bytes,
        "roster": config.members_limit,
        "forgotten_members": config.members_limit,
        "unasked_suspects": config.members_limit,
        "direct_senders": config.direct_senders,
        "exchanges": config.exchanges_limit + config.dials_at_once,
        "remembered_contacts": config.remembered_contacts,
        "dials_under_way": config.dials_at_once,
        "overlay_dials": config.dials_at_once,
        "failed_dials": config.failed_dials,
        "failed_sites": config.failed_dials,
        "sites_met": SITES_MET,
        "false_tellers": TELLERS_MOST,
        "dials_on_word": config.dials_at_once,
        "passive_view": config.passive_view,
        "passive_sources": contacts,
        "shuffle_walks": config.shuffle_walks,
        "moves_asked": links,
        "moves_declined": links,
    }

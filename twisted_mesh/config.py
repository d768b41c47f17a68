"""Every limit and interval of a node, in one frozen value.

Contract: what a user may want to set is named here.  Every other bound or wait is a constant with its
reason beside it: those both ends of a link must agree on in :mod:`twisted_mesh.wire`, those of one rule
beside that rule.  Times are seconds, sizes bytes.  Each default says where it comes from: a paper or a
measurement, or that it is a guess.  docs/limits.rst lists the same names with the policy at each limit.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from twisted_mesh.errors import LocalError

MIB = 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class MeshConfig:
    """The limits and intervals of a node; every one can be given by name.

    :raises LocalError: a value that is not a positive number (``batch_delay`` may be 0), or two that
        contradict each other.
    """

    # Links.
    #: From the connection to the first frame behind PROOF (guess; py2p waits for ever).  Over a slow line
    #: that frame, the frontier, has up to thirty times as long.
    handshake_timeout: float = 10.0
    #: Accepted connections that have not proven themselves; the oldest is closed (guess).
    handshakes_limit: int = 512
    #: Links in all; one more is refused (guess; select-free reactors hold far more).
    links_limit: int = 1024
    #: How long a connection may take to be made, the look-up of a name included (Twisted's endpoints use 30
    #: for a connection alone; guess).
    connect_timeout: float = 10.0
    #: From our BYE to cutting the connection, if the peer does not close it (guess).  A proven peer that
    #: nobody blames has up to 150 times that while bytes still move over a slow line.
    close_timeout: float = 2.0
    #: PING a link after so long without a byte from it (docs/protocol.rst).
    ping_after: float = 5.0
    #: A link is dead after so long without a byte received and without one accepted (docs/protocol.rst).
    dead_after: float = 15.0
    #: A reactor late by more than this doubts itself first (Lifeguard).
    stall_grace: float = 1.0
    #: Of crossing dials the newer link wins only if the older was silent this long (docs/protocol.rst).
    crossing_silence: float = 5.0
    #: What may wait behind a link's transport before the rest is announced and pulled (docs/protocol.rst).
    link_queue_bytes: int = 4 * MIB
    #: Bytes given to a transport in one write (guess).
    write_bytes: int = 256 * 1024

    # Dialling.
    #: Waits between attempts at a configured peer: the first, the growth and the longest
    #: (Twisted's backoffPolicy, which adds up to a second of jitter).
    redial_initial: float = 0.5
    redial_factor: float = 1.5
    redial_longest: float = 60.0
    #: Names that are looked up at a time, and as many again of those that peers tell: a thread each (guess:
    #: a name whose name servers are silent keeps its thread for half a minute).
    lookups_at_once: int = 8
    #: While another node uses the key, in a newer run: between dials of one peer, a quarter more or less,
    #: and between all dials of the overlay and for exchanges (as long as ``suspect_patience``; guess).
    key_retry: float = 15.0
    #: ``disconnect()`` forbids dialling that peer again for so long (docs/protocol.rst).
    redial_forbidden: float = 60.0

    #: A node without a link dials those it was linked with before, after so long (guess).
    isolated_after: float = 5.0
    #: Addresses of such nodes that are kept (guess).
    address_book_limit: int = 64

    # The overlay: who is whose neighbour.
    #: Neighbours a node looks for; up to one more node than this every one is linked with every other
    #: (HyParView's 10,000 nodes).
    active_view: int = 5
    #: Other nodes it could dial (HyParView).
    passive_view: int = 30
    #: Steps of the walk of a newcomer, and those left when it is written down (HyParView).
    active_walk: int = 6
    passive_walk: int = 3
    #: Contacts of each view in a shuffle (HyParView).
    shuffle_active: int = 3
    shuffle_passive: int = 4
    #: From one shuffle to the next, up to a quarter more or less (Partisan's).
    shuffle_interval: float = 10.0
    #: Walks of shuffles whose way back is known; the oldest is forgotten (guess).
    shuffle_walks: int = 64
    #: The overlay looks in this interval whether it has neighbours enough, or too many (guess).
    overlay_interval: float = 0.5
    #: How long it waits for a link it asked another node to make (guess).
    move_timeout: float = 10.0
    #: Addresses that peers told and that are being dialled at a time, all purposes together (guess).
    dials_at_once: int = 4
    #: Such dials in a row, and a second on average (guess).
    dial_burst: int = 10
    dial_rate: float = 2.0
    #: An address where the node it should be was not found is left alone for so long (guess).
    dial_again: float = 60.0
    #: Such addresses that are remembered; the oldest is forgotten (guess).
    failed_dials: int = 1024

    # The roster: who is a member, and whether it is there.
    #: A node's PRESENCE is renewed in this interval ...
    presence_interval: float = 30.0
    #: ... in a large mesh so that all together send no more than this a second (docs/protocol.rst).
    presence_rate: float = 33.0
    #: The first PRESENCE is followed by another after so long, when the node's links have settled: most
    #: learned of the first from rosters, over links that were moved since (guess).
    presence_settle: float = 5.0
    #: Intervals of silence after which a member is down (docs/protocol.rst).
    presence_missed: int = 3
    #: A member that is suspected is down after so long without a word (docs/protocol.rst).
    suspect_patience: float = 15.0
    #: From one refutation of a suspicion to the next (docs/protocol.rst).
    refute_pause: float = 5.0
    #: From one accusation to the next by the same member (docs/protocol.rst).
    accuse_pause: float = 1.0
    #: A member that is down is forgotten after so long, an ephemeral one after the other
    #: (docs/protocol.rst).
    member_memory: float = 86_400.0
    ephemeral_memory: float = 60.0
    #: Members of the roster; for one more the one that is down longest goes, else it waits (guess).
    members_limit: int = 4096
    #: Authors a link may bring that nobody heard of, in a row and a minute on average; what comes of
    #: others waits (guess).
    authors_burst: int = 1024
    authors_a_minute: float = 256.0

    # The exchange with nodes that are no neighbours.
    #: From one exchange to the next, up to a quarter more or less (docs/protocol.rst).
    exchange_interval: float = 60.0
    #: An exchange is over when nothing has come for so long, and after so long in any case (guess).
    exchange_idle: float = 2.0
    exchange_timeout: float = 60.0
    #: Exchanges at a time that others dialled; one more is refused (guess).
    exchanges_limit: int = 64
    #: Members that are asked for what no neighbour has (docs/protocol.rst).
    gap_members: int = 8
    #: Nodes that were linked with once, the latest (guess: as many as the address book has).
    remembered_contacts: int = 64
    #: A configured peer that passed this node on to others is tried again after so long
    #: (docs/protocol.rst).
    peer_interval: float = 300.0

    # Receipts and direct messages.
    #: Receipts for one author are gathered for so long before they go on (docs/protocol.rst).
    receipt_delay: float = 0.05
    #: ... and those of one member come no faster than so many seconds for each member there is, so that
    #: the author has 500 a second to verify (docs/protocol.rst).
    receipt_share: float = 0.002
    #: A receipt is told again after so long, then twice that, up to the longest: a relay may have died with
    #: it (guess).
    receipt_repeat: float = 5.0
    receipt_repeat_longest: float = 600.0
    #: Own messages of which a receipt is open; the oldest is closed (guess).
    receipts_limit: int = 4096
    #: Receipts on their way through this node; one more is dropped, and comes again (guess).
    receipts_carried: int = 16_384
    #: What a link may bring of receipts and direct messages in a row, and a second on average; the rest is
    #: dropped unread, and comes again (guess: each costs a verification of some 70 us).
    reverse_burst: int = 2048
    reverse_rate: float = 1024.0
    #: A direct message is repeated after so long, then twice that, up to the longest (guess).
    direct_repeat: float = 1.0
    direct_repeat_longest: float = 8.0
    #: Until then it must be acknowledged, or its sender is told Unreachable: longer than presence_interval,
    #: since a lost way to a node that says nothing is known again with its next PRESENCE (guess).
    direct_timeout: float = 45.0
    #: Direct messages to one node that wait to be acknowledged; one more is refused (docs/protocol.rst).
    direct_window: int = 1024
    #: Likewise by bytes, to all nodes together (guess).
    direct_bytes: int = 8 * MIB
    #: Nodes that sent direct messages to this one and are remembered, each with its newest run, so that
    #: none is delivered twice: the longest idle is forgotten.  And nodes this one sent some to: for one
    #: more one for which nothing waits is forgotten, or what is to go there is refused (guess).
    direct_senders: int = 4096

    # Sending.
    #: Own messages no neighbour has taken yet; beyond it ``send()`` raises Congested (docs/protocol.rst).
    unsent_bytes: int = 8 * MIB
    #: Who sent within so long waits for it to be over: what is sent in a row shares batches; 0: nobody
    #: waits (docs/protocol.rst).
    batch_delay: float = 0.002
    #: A batch is closed at this size; a larger message is a batch of its own (docs/protocol.rst).
    batch_bytes: int = 256 * 1024
    #: How long stopping waits for own messages to be handed over (guess).
    handover_timeout: float = 10.0
    #: And then for neighbours to say that they know of it (guess).
    farewell_timeout: float = 1.0

    # Receiving.
    #: A hole without progress becomes a told gap after so long (docs/protocol.rst).
    gap_patience: float = 30.0
    #: ... and one that something is on its way to fill after so long: others hold it no longer than
    #: ``history_seconds``, by default (docs/protocol.rst).
    gap_longest: float = 600.0
    #: Batches that wait behind holes, all streams together; what has no room is pulled again (guess).
    waiting_bytes: int = 16 * MIB
    #: Streams with their full state; beyond it the longest idle keeps only its head (guess).
    open_streams: int = 16_384
    #: Heads kept of streams that are closed; the oldest is forgotten (docs/protocol.rst).
    closed_streams: int = 2**18
    #: Messages that wait in one ``messages()``; what comes beyond stays in the history and is read from
    #: there (10,000 was too few for a burst of short lines while a terminal was busy: measured).
    queue_limit: int = 100_000
    #: Likewise by bytes, as they were packed (guess).
    queue_bytes: int = 16 * MIB

    # Trees and repair.
    #: An announcement on a quiet link is given so long for the push to come (docs/protocol.rst).
    graft_timeout: float = 0.15
    #: Announcements are gathered for so long (docs/protocol.rst).
    have_delay: float = 0.03
    #: An asked link that sends nothing for so long is given up for another (guess).
    graft_retry: float = 1.0
    #: An answer to a WANT ends after so much (docs/protocol.rst).
    answer_bytes: int = MIB
    #: What each neighbour holds is compared in this interval (docs/protocol.rst).
    compare_interval: float = 30.0
    #: Of one link's claims about runs the oldest is forgotten beyond this (guess).
    claims_limit: int = 65_536
    #: What is held for others, in memory: the largest author's oldest goes first (docs/protocol.rst).
    history_bytes: int = 64 * MIB
    history_seconds: float = 600.0

    # Storing, where there is a history file.
    #: From the first change to the flush that stores it: so much is delivered again after a crash (guess).
    flush_interval: float = 0.05
    #: A history that cannot be written, or read, is tried again in this interval (guess).
    store_retry: float = 5.0
    #: What the file holds: the largest author's oldest goes first (docs/protocol.rst).
    store_bytes: int = 1024 * MIB
    store_seconds: float = 7 * 86_400.0

    # Telling.
    #: Log lines for each remote host, or author, and interval; the rest is counted and told in one (guess).
    log_burst: int = 5
    log_interval: float = 60.0
    #: Hosts whose log lines are counted at a time; the oldest is forgotten (guess).
    log_hosts: int = 1024
    #: Log lines about the authors of messages, all of them together, in an interval (guess).
    log_authors: int = 50
    #: Failures a socket's ``status`` tells; the oldest is forgotten (guess).
    failures_limit: int = 100

    @property
    def longest_stop(self) -> float:
        """Seconds that stopping takes at most: handing over, saying goodbye, and closing twice over.

        The second ``close_timeout`` is for connections that do not say that they are cut off.
        """
        return self.handover_timeout + self.farewell_timeout + 2 * self.close_timeout

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            number = (int,) if field.type == "int" else (int, float)
            may_be_none = field.name == "batch_delay" and value == 0
            if type(value) not in number or not (may_be_none or 0 < value < float("inf")):
                raise LocalError(f"{field.name} must be a positive {field.type}, not {value!r}")
        if self.ping_after >= self.dead_after:
            raise LocalError("ping_after must be below dead_after")
        if self.gap_patience > self.gap_longest:
            raise LocalError("gap_longest must be at least gap_patience")
        if self.redial_factor < 1:
            raise LocalError("redial_factor must be 1 or more")
        if self.redial_initial > self.redial_longest:
            raise LocalError("redial_initial must be at most redial_longest")
        if self.unsent_bytes < 2 * MIB:
            raise LocalError("unsent_bytes must be at least 2 MiB, or the largest message never fits")
        if self.batch_bytes > MIB:
            raise LocalError("batch_bytes must be at most 1 MiB, the largest frame body")

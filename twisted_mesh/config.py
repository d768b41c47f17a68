"""Every limit and interval of a node, in one frozen value.

Contract: every bound that a user may want to set is named here.  Every other bound or wait is a constant
with its reason beside it: in :mod:`twisted_mesh.wire` if both ends of a link must agree on it, else beside
its rule.  Times are in seconds, sizes in bytes.  Each default names its source: a paper, a measurement, a
page, or "guess".  docs/limits.rst lists the same names and what happens at each limit.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from twisted_mesh.errors import LocalError

MIB = 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class MeshConfig:
    """The limits and intervals of a node, each given by name.

    :raises LocalError: a value that is not a positive number (``batch_delay`` may be 0), or two that
        contradict each other.
    """

    # Links.
    #: From the connection to the first frame behind PROOF (guess; py2p waits for ever).  Over a slow line
    #: that frame, the frontier, may take up to thirty times as long.
    handshake_timeout: float = 10.0
    #: Accepted connections whose peer has not proven its key; the oldest is closed (guess).
    handshakes_limit: int = 512
    #: Links in all; one more is refused (guess; select-free reactors hold far more).
    links_limit: int = 1024
    #: For making a connection, the look-up of a name included (Twisted's endpoints allow 30 seconds without
    #: the look-up; guess).
    connect_timeout: float = 10.0
    #: From our BYE to cutting the connection, if the peer does not close it (guess).  If the peer is proven
    #: and not at fault, up to 150 times that while bytes still move over a slow line.
    close_timeout: float = 2.0
    #: A link without a byte received for this long is sent a PING (docs/protocol.rst).
    ping_after: float = 5.0
    #: A link without a byte received, and without one accepted, for this long is dead (docs/protocol.rst).
    dead_after: float = 15.0
    #: If the own reactor is late by more than this, that time counts against no peer (Lifeguard).
    stall_grace: float = 1.0
    #: Of crossing dials the newer link wins only if the older was silent for this long (docs/protocol.rst).
    crossing_silence: float = 5.0
    #: Bytes that may wait behind a link's transport; more is announced and pulled (docs/protocol.rst).
    link_queue_bytes: int = 4 * MIB
    #: Bytes given to a transport in one write (guess).
    write_bytes: int = 256 * 1024

    # Dialling.
    #: Waits between attempts to dial a configured peer: the first, the factor of growth and the longest
    #: (Twisted's backoffPolicy, which adds up to a second of jitter).
    redial_initial: float = 0.5
    redial_factor: float = 1.5
    redial_longest: float = 60.0
    #: Names looked up at a time, each in a thread, and as many more of names that peers tell (guess: a name
    #: whose name servers are silent keeps its thread for half a minute).
    lookups_at_once: int = 8
    #: While another node uses the key, in a newer run: from one dial of a peer to the next, up to a quarter
    #: more or less, and between all dials for overlay and exchanges (equals ``suspect_patience``; guess).
    key_retry: float = 15.0
    #: ``disconnect()`` forbids dialling that peer again for this long (docs/protocol.rst).
    redial_forbidden: float = 60.0
    #: A node without a link for this long dials the nodes it was linked with before (guess).
    isolated_after: float = 5.0
    #: Addresses kept of such nodes (guess).
    address_book_limit: int = 64

    # The overlay: which nodes are neighbours.
    #: Neighbours a node looks for; a mesh of one more node is fully linked (HyParView's, of 10,000 nodes).
    active_view: int = 5
    #: Other nodes it could dial (HyParView).
    passive_view: int = 30
    #: Steps of a newcomer's walk, and the steps left when a node notes the newcomer (HyParView).
    active_walk: int = 6
    passive_walk: int = 3
    #: Contacts of the active and of the passive view in a shuffle (HyParView).
    shuffle_active: int = 3
    shuffle_passive: int = 4
    #: From one shuffle to the next, up to a quarter more or less (Partisan).
    shuffle_interval: float = 10.0
    #: Shuffles on their walk whose way back is remembered; the oldest is forgotten (guess).
    shuffle_walks: int = 64
    #: From one check to the next whether the node has too few or too many neighbours (guess).
    overlay_interval: float = 0.5
    #: For a link that another node was asked to make (guess).
    move_timeout: float = 10.0
    #: Addresses told by peers that are dialled at a time, for all purposes together (guess).
    dials_at_once: int = 4
    #: Such dials in a row, and a second on average (guess).
    dial_burst: int = 10
    dial_rate: float = 2.0
    #: An address where the expected node was not found is not dialled for this long (guess).
    dial_again: float = 60.0
    #: Such addresses remembered; the oldest is forgotten (guess).
    failed_dials: int = 1024

    # The roster: the members, and whether they are there.
    #: From one PRESENCE of a node to the next ...
    presence_interval: float = 30.0
    #: ... or longer, so that all nodes of a large mesh send at most this many a second (docs/protocol.rst).
    presence_rate: float = 33.0
    #: From a node's first PRESENCE to its second, when its links have settled: most nodes learned of the
    #: first from rosters, over links that have moved since (guess).
    presence_settle: float = 5.0
    #: A member silent for this many of its intervals is down (docs/protocol.rst).
    presence_missed: int = 3
    #: A suspected member that sends no PRESENCE for this long is down (docs/protocol.rst).
    suspect_patience: float = 15.0
    #: From one refutation of a suspicion to the next (docs/protocol.rst).
    refute_pause: float = 5.0
    #: From one accusation by a member to its next (docs/protocol.rst).
    accuse_pause: float = 1.0
    #: A gone member is forgotten after the first time, an ephemeral one after the second
    #: (docs/protocol.rst).
    member_memory: float = 86_400.0
    ephemeral_memory: float = 60.0
    #: Authors on the roster; for one more the longest gone is forgotten, else the newcomer waits (guess).
    members_limit: int = 4096
    #: Unknown authors that a link may bring, in a row and in a minute on average; records and batches of
    #: further authors wait (guess).
    authors_burst: int = 1024
    authors_a_minute: float = 256.0

    # The exchange with nodes that are no neighbours.
    #: From one exchange to the next, up to a quarter more or less (docs/protocol.rst).
    exchange_interval: float = 60.0
    #: An exchange is over if nothing has come for the first time, or after the second in any case (guess).
    exchange_idle: float = 2.0
    exchange_timeout: float = 60.0
    #: Exchanges at a time that other nodes dialled; one more is refused (guess).
    exchanges_limit: int = 64
    #: Members asked for messages that no neighbour has (docs/protocol.rst).
    gap_members: int = 8
    #: Nodes remembered that this one was linked with, the latest (guess: as many as the address book has).
    remembered_contacts: int = 64
    #: A configured peer that passed this node on to others is dialled again after this long
    #: (docs/protocol.rst).
    peer_interval: float = 300.0

    # Receipts and direct messages.
    #: Receipts for one author are gathered for this long before they go on (docs/protocol.rst).
    receipt_delay: float = 0.05
    #: ... and from one receipt of a member to its next, this for each member there is, so that the author
    #: has 500 a second to verify (docs/protocol.rst).
    receipt_share: float = 0.002
    #: A receipt is sent again after this long, then after twice that, up to the longest: a relay may have
    #: died with it (guess).
    receipt_repeat: float = 5.0
    receipt_repeat_longest: float = 600.0
    #: Own messages with an open receipt; the oldest receipt is closed (guess).
    receipts_limit: int = 4096
    #: Receipts on their way through this node; one more is dropped, and comes again (guess).
    receipts_carried: int = 16_384
    #: Receipts and direct messages that a link may bring in a row, and in a second on average; more are
    #: dropped unread, and come again (guess: each costs a verification of some 70 us).
    reverse_burst: int = 2048
    reverse_rate: float = 1024.0
    #: A direct message is repeated after this long, then after twice that, up to the longest (guess).
    direct_repeat: float = 1.0
    direct_repeat_longest: float = 8.0
    #: For a direct message's acknowledgement; then its sender is told Unreachable.  Longer than
    #: presence_interval, since a lost way to a silent node is known again with its next PRESENCE (guess).
    direct_timeout: float = 45.0
    #: Direct messages to one node without an acknowledgement; one more is refused (docs/protocol.rst).
    direct_window: int = 1024
    #: Bytes of direct messages to all nodes without an acknowledgement; one more is refused (guess).
    direct_bytes: int = 8 * MIB
    #: Nodes remembered that sent direct messages here, each with its newest run, so that no message is
    #: delivered twice: one that is neither on the roster nor a neighbour is forgotten; if there is none,
    #: the new one is not taken.  So it is above ``members_limit`` and ``links_limit`` together; half a KiB
    #: each (measured).  Also nodes that were sent some: for one more, a node for which nothing waits is
    #: forgotten; if there is none, the message is refused.
    direct_senders: int = 16_384

    # Sending.
    #: Own messages no neighbour has taken; beyond this ``send()`` raises Congested (docs/protocol.rst).
    unsent_bytes: int = 8 * MIB
    #: If the application sent within this time, a message waits until it is over, so that messages sent in
    #: a row share batches; 0: none waits (docs/protocol.rst).
    batch_delay: float = 0.002
    #: A batch is closed at this size; a larger message is a batch of its own (docs/protocol.rst).
    batch_bytes: int = 256 * 1024
    #: Stopping waits this long for a neighbour to take the own messages (guess) ...
    handover_timeout: float = 10.0
    #: ... and then this long for neighbours to say that they know of it (guess).
    farewell_timeout: float = 1.0

    # Receiving.
    #: A hole without progress for this long is told as a gap (docs/protocol.rst) ...
    gap_patience: float = 30.0
    #: ... and after this long if something is on its way to fill it: by default other nodes hold the
    #: messages no longer than that, ``history_seconds`` (docs/protocol.rst).
    gap_longest: float = 600.0
    #: Bytes of batches that wait behind holes, of all streams; one without room is pulled again (guess).
    waiting_bytes: int = 16 * MIB
    #: Streams with their full state; of more, the longest idle keeps its head only (guess).
    open_streams: int = 16_384
    #: Heads of closed streams that are kept; the oldest is forgotten (docs/protocol.rst).
    closed_streams: int = 2**18
    #: Messages that wait in one ``messages()``; further ones stay in the history and are read from there
    #: (10,000 was too few for a burst of short lines while a terminal was busy: measured).
    queue_limit: int = 100_000
    #: The same in bytes, as packed (guess).
    queue_bytes: int = 16 * MIB

    # Trees and repair.
    #: From an announcement on a lazy link to the WANT, since the push may still come (docs/protocol.rst).
    graft_timeout: float = 0.15
    #: Announcements are gathered for this long (docs/protocol.rst).
    have_delay: float = 0.03
    #: A link that was asked, and sends nothing for this long, is given up for another (guess).
    graft_retry: float = 1.0
    #: An answer to a WANT ends after this many bytes (docs/protocol.rst).
    answer_bytes: int = MIB
    #: From one comparison of the streams with each neighbour to the next (docs/protocol.rst).
    compare_interval: float = 30.0
    #: Claims about runs kept of one link; the oldest is forgotten (guess).
    claims_limit: int = 65_536
    #: Of messages held for others in memory: the largest author's oldest goes first (docs/protocol.rst).
    history_bytes: int = 64 * MIB
    history_seconds: float = 600.0

    # Storing, if there is a history file.
    #: From a change to the flush that stores it; a crash delivers messages of this time again (guess).
    flush_interval: float = 0.05
    #: From one attempt to the next at a history that cannot be written or read (guess).
    store_retry: float = 5.0
    #: Of messages in the file: the largest author's oldest goes first (docs/protocol.rst).
    store_bytes: int = 1024 * MIB
    store_seconds: float = 7 * 86_400.0

    # Logs and failures.
    #: Log lines about one remote host, or author, in an interval; the next line counts the others (guess).
    log_burst: int = 5
    log_interval: float = 60.0
    #: Hosts with such a count; the oldest is forgotten (guess).
    log_hosts: int = 1024
    #: Log lines about authors of messages, all authors together, in an interval (guess).
    log_authors: int = 50
    #: Failures that a socket's ``status`` tells; the oldest is forgotten (guess).
    failures_limit: int = 100

    @property
    def longest_stop(self) -> float:
        """Seconds that stopping takes at most: handing over, saying goodbye, and closing.

        The second ``close_timeout`` is for connections that do not tell when they are cut off.
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

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

    :raises LocalError: a value is not a positive number (only ``batch_delay`` may be 0), or two values
        contradict each other.
    """

    # Links.
    #: From the connection to the first frame behind PROOF, the frontier (guess; py2p waits for ever).  The
    #: frontier itself may take up to thirty times this long over a slow line.
    handshake_timeout: float = 10.0
    #: Accepted connections whose peer has proven nothing.  If there are more, the host with most loses one;
    #: from three quarters on it gets no further ones (guess).
    handshakes_limit: int = 512
    #: Connections that one host may make in a row (guess: 300 clients behind one address that come back
    #: together need not wait).
    accept_burst: int = 300
    accept_rate: float = 20.0  #: ... and in a second on average; further connections wait
    #: Connections of all hosts together that may begin in a row (guess: a TLS session and the two
    #: signatures of PROOF take about a millisecond).
    handshakes_burst: int = 150
    handshakes_rate: float = 150.0  #: ... and in a second on average; further connections wait
    #: A connection that has waited for this long, or for half of ``handshake_timeout``, is refused (guess:
    #: the node that dials waits for ``handshake_timeout`` in all).
    accept_wait: float = 5.0
    #: Links, of which three quarters may be with unknown nodes.  If there are more, the host with most
    #: loses one, or the newest is refused (guess; every reactor but select's can hold far more).
    links_limit: int = 1024
    #: Files and connections that the process may have open: a lower limit is raised to this if the host
    #: allows (guess: the limits above, and the application's own files).
    descriptors_limit: int = 4096
    #: Files and connections that are kept for other uses than links and strangers, at most half of all
    #: (guess: listeners, the history, dials, name servers).
    descriptors_kept: int = 64
    #: A node is known if it was up for this long as a member, or if its link has stood for this long; links
    #: to known nodes are the last to be closed (guess: new keys cost nothing, time costs something).
    established_after: float = 600.0
    #: Time to make a connection, the look-up of the name included (guess; Twisted's endpoints allow 30
    #: seconds without the look-up).
    connect_timeout: float = 10.0
    #: From this node's BYE until it cuts a connection that the peer does not close (guess).  If the peer is
    #: proven and not at fault, it takes up to 150 times as long while bytes still move over a slow line.
    close_timeout: float = 2.0
    #: If no byte came over a link for this long, it is sent a PING (docs/protocol.rst).
    ping_after: float = 5.0
    #: If for this long no byte came over a link or was accepted for it, it is dead (docs/protocol.rst).
    dead_after: float = 15.0
    #: Bytes kept of unfinished frames, over all links.  If there are more, the host with most loses that
    #: link that brought least in the last ``dead_after`` (guess: 64 of the largest frames).
    half_frames_bytes: int = 64 * MIB
    #: If this node's reactor is late by more than this, the delay counts as no peer's silence (Lifeguard).
    stall_grace: float = 1.0
    #: If two nodes dial each other, the newer link wins if the older is silent so long (docs/protocol.rst).
    crossing_silence: float = 5.0
    #: Bytes that may wait for a link's transport; further messages are only announced (docs/protocol.rst).
    link_queue_bytes: int = 4 * MIB
    #: Bytes given to a transport in one write (guess).
    write_bytes: int = 256 * 1024

    # Dialling.
    #: The first wait between attempts to dial a configured peer (of Twisted's backoffPolicy, which adds up
    #: to a second of jitter) ...
    redial_initial: float = 0.5
    redial_factor: float = 1.5  #: ... the factor by which each wait is longer than the one before
    redial_longest: float = 60.0  #: ... and the longest wait
    #: Names of the application looked up at a time, each in a thread, and as many names that peers tell
    #: (guess: if the servers of a name are silent, it keeps its thread for half a minute).
    lookups_at_once: int = 8
    #: If another node uses this node's key in a newer run: from one dial of a peer to the next, up to a
    #: quarter more or less, and between all dials of the overlay (guess; as ``suspect_patience``).
    key_retry: float = 15.0
    #: ``disconnect()`` forbids dialling that peer again for this long (docs/protocol.rst).
    redial_forbidden: float = 60.0
    #: If a node has no link for this long, it dials the nodes that it was linked with before (guess).
    isolated_after: float = 5.0
    #: Addresses kept of the nodes that this node was linked with (guess).
    address_book_limit: int = 64

    # The overlay: which nodes are neighbours.
    #: Neighbours that a node looks for; in a mesh of six nodes, each is linked with all others (HyParView's
    #: number, for 10,000 nodes).
    active_view: int = 5
    #: Further nodes that a node remembers and could dial (HyParView).
    passive_view: int = 30
    #: Steps of the walk from node to node by which a newcomer finds neighbours (HyParView) ...
    active_walk: int = 6
    passive_walk: int = 3  #: ... and the steps left at the node that remembers the newcomer
    #: Contacts in a shuffle, an exchange of contacts, that are neighbours (HyParView) ...
    shuffle_active: int = 3
    shuffle_passive: int = 4  #: ... and those that are only remembered
    #: From one shuffle to the next, up to a quarter more or less (Partisan).
    shuffle_interval: float = 10.0
    #: Shuffles whose way back is remembered; for one more, the oldest is forgotten (guess).
    shuffle_walks: int = 64
    #: From one check to the next whether the node has too few or too many neighbours (guess).
    overlay_interval: float = 0.5
    #: Time in which another node must make the link that it was asked for (guess).
    move_timeout: float = 10.0
    #: Addresses told by peers that are dialled at a time, for all purposes together (guess).
    dials_at_once: int = 4
    #: Dials of addresses that peers told, in a row (guess) ...
    dial_burst: int = 10
    dial_rate: float = 2.0  #: ... and in a second on average
    #: If the expected node was not found at an address, the address is not dialled for this long (guess).
    dial_again: float = 60.0
    #: A site where this node never linked with a node is left alone for that long after the first failure,
    #: twice as long after each further one, and at most for this long (guess).
    dial_longest: float = 3600.0
    #: Addresses, and sites, remembered at which a node was not found; for one more, the oldest is forgotten
    #: (guess).
    failed_dials: int = 1024

    # The roster: the members, and whether they are up.
    #: From one PRESENCE of a node to the next, at least ...
    presence_interval: float = 30.0
    #: ... and so long that all nodes of a large mesh send at most this many a second (docs/protocol.rst).
    presence_rate: float = 33.0
    #: From a node's first PRESENCE to its second (guess): by then its links are steady.  Most nodes learn
    #: the first one from rosters, over links that may have ended since.
    presence_settle: float = 5.0
    #: If no PRESENCE of a member comes for this many of its intervals, it is down (docs/protocol.rst).
    presence_missed: int = 3
    #: If no PRESENCE of a suspected member comes for this long, it is down (docs/protocol.rst).
    suspect_patience: float = 15.0
    #: From one refutation of a suspicion to the next (docs/protocol.rst).
    refute_pause: float = 5.0
    #: From one accusation by a member to its next (docs/protocol.rst).
    accuse_pause: float = 1.0
    #: From one look to the next at the files of ``trust``, which are read again when they change (guess).
    trust_interval: float = 5.0
    #: Members that one member may have forgotten in a row; all new members together may as many (guess) ...
    forgets_burst: int = 64
    forgets_a_minute: float = 6.0  #: ... and a minute on average; more requests do not count
    #: A member that is gone is forgotten after this time (docs/protocol.rst) ...
    member_memory: float = 86_400.0
    ephemeral_memory: float = 60.0  #: ... and after this time if its key was ephemeral, or it spoke once
    #: Authors on the roster; for one more, one that is gone or silent is forgotten, or the new one waits
    #: (guess).
    members_limit: int = 4096
    #: Unknown authors that the links of one site may bring in a row; those of all sites, sixteen times as
    #: many (guess) ...
    authors_burst: int = 1024
    authors_a_minute: float = 256.0  #: ... and in a minute on average; further new authors wait
    #: From an author's first record or batch until the author is known: an attacker can make up any number
    #: of authors, but must wait (guess).
    known_after: float = 600.0
    #: Authors of which this node knows when and how it met them (guess: four times ``members_limit``).
    authors_limit: int = 16_384

    # Shares: what an author may bring while another one waits and this node is late (core/shares.py).
    #: Batches of a known author in a second on average, and in a row (guess: a node makes up to 500, by
    #: ``batch_delay``) ...
    known_batches: float = 1000.0
    known_batches_burst: int = 2000
    new_batches: float = 50.0  #: ... and of a new one
    new_batches_burst: int = 200
    #: Bytes of an author's batches and direct messages, in a second on average (guess).
    known_bytes: float = 96.0 * MIB
    new_bytes: float = 1.0 * MIB
    #: The part of the processor's time for a known author, and for all new ones together (guess).
    known_processor: float = 0.125
    new_processor: float = 0.03125
    #: Runs of which the first batch is pushed, in a minute on average, and in a row (guess).
    known_runs_a_minute: float = 6.0
    known_runs_burst: int = 64
    new_runs_a_minute: float = 1.0
    new_runs_burst: int = 16
    #: Records of presence, in a minute on average, and in a row (guess: a suspected node sends 12).
    known_records_a_minute: float = 60.0
    known_records_burst: int = 5
    new_records_a_minute: float = 6.0
    new_records_burst: int = 3
    #: Direct messages and acknowledgements, in a second on average, and in a row (guess).
    known_directs: float = 128.0
    known_directs_burst: int = 256
    new_directs: float = 8.0
    new_directs_burst: int = 32

    # Exchanges with nodes that are no neighbours.
    #: From one exchange to the next, up to a quarter more or less (docs/protocol.rst).
    exchange_interval: float = 60.0
    #: An exchange ends if no byte has come for this long (guess) ...
    exchange_idle: float = 2.0
    exchange_timeout: float = 60.0  #: ... and after this time in any case
    #: Exchanges at a time that other nodes dialled; one more is refused (guess).
    exchanges_limit: int = 64
    #: ... and exchanges that nodes at one site dialled (guess: many nodes can be behind one address).
    exchanges_of_site: int = 4
    #: Members that are asked for messages that no neighbour has, at most (docs/protocol.rst).
    gap_members: int = 8
    #: Nodes kept in memory that this node was linked with last (guess: as many as in the address book).
    remembered_contacts: int = 64
    #: If a configured peer passed this node on to others, it is dialled again after this long
    #: (docs/protocol.rst).
    peer_interval: float = 300.0

    #: Batches of which this node remembers by which way they came, for ``trace()``; if there are more, the
    #: oldest is forgotten (guess).
    ways_limit: int = 4096

    # Receipts and direct messages.
    #: Receipts for one author are gathered for this long before they are sent on (docs/protocol.rst).
    receipt_delay: float = 0.05
    #: From one receipt of a member to its next: this time, multiplied by the number of members, so that an
    #: author has to verify 500 a second (docs/protocol.rst).
    receipt_share: float = 0.002
    #: A receipt is sent again after this long, since a relay may have stopped before it sent the receipt on
    #: (guess); each further wait is twice as long ...
    receipt_repeat: float = 5.0
    receipt_repeat_longest: float = 600.0  #: ... up to this
    #: Messages of this node with an open receipt; for one more, the oldest receipt is closed (guess).
    receipts_limit: int = 4096
    #: Receipts on their way through this node; further ones are dropped, and sent again later (guess).
    receipts_carried: int = 16_384
    #: Receipts and direct messages that a link may bring in a row (guess: to verify one takes 70 us).  Of
    #: what an encrypted link brings of its peer itself, only what leads to nothing counts ...
    reverse_burst: int = 2048
    reverse_rate: float = 1024.0  #: ... and a second on average; others are dropped, and sent again
    #: A direct message is repeated after this long (guess); each further wait is twice as long ...
    direct_repeat: float = 1.0
    direct_repeat_longest: float = 8.0  #: ... up to this
    #: If a direct message is not acknowledged for this long, its sender gets Unreachable (guess).  The time
    #: is longer than presence_interval: if the way to a node was lost, its next PRESENCE shows another way.
    direct_timeout: float = 45.0
    #: Direct messages to one node without an acknowledgement; one more is refused (docs/protocol.rst).
    direct_window: int = 1024
    #: Bytes of direct messages to all nodes without an acknowledgement; one more is refused (guess).
    direct_bytes: int = 8 * MIB
    #: Nodes remembered that sent direct messages to this node, so that no message is delivered twice: half
    #: a KiB each (measured).  For one more, a node neither on the roster nor linked is forgotten; if
    #: there is none, the message is not taken.  So the limit is above ``members_limit`` and ``links_limit``
    #: together.  It also limits the nodes that this node sent direct messages to: for one more, a node with
    #: no open message is forgotten; if there is none, the new message is refused.
    direct_senders: int = 16_384
    #: Requests that wait for their answers; one more fails with Congested (guess).
    requests_limit: int = 16_384
    #: Bytes of direct messages that came before their turn, or found no room at a consumer; beyond this the
    #: sender that waits for longest loses its own, which are sent again (guess).
    direct_held_bytes: int = 4 * MIB

    # Sending.
    #: Bytes of this node's messages that no neighbour has accepted; beyond this ``send()`` raises Congested
    #: (docs/protocol.rst).
    unsent_bytes: int = 8 * MIB
    #: A message waits until this long after the message before it, so that messages that are sent in a row
    #: share a batch; with 0 none waits (docs/protocol.rst).
    batch_delay: float = 0.002
    #: The message that brings a batch to this size is its last, if the frame stays within 1 MiB; a message
    #: that is larger by itself is a batch of its own (docs/protocol.rst).
    batch_bytes: int = 256 * 1024
    #: A node that stops waits this long for a neighbour to accept its messages (guess) ...
    handover_timeout: float = 10.0
    #: ... and then this long for its neighbours to confirm that they know that it stops (guess).
    farewell_timeout: float = 1.0

    # Receiving.
    #: If no message fills a hole for this long, the application is told of a gap (docs/protocol.rst) ...
    gap_patience: float = 30.0
    #: ... or after this long, if messages are on their way to fill it (docs/protocol.rst): by default other
    #: nodes hold messages for no longer (``history_seconds``).
    gap_longest: float = 600.0
    #: Bytes of batches that wait behind holes, of all streams; further batches are pulled later (guess).
    waiting_bytes: int = 16 * MIB
    #: Streams with their full state; for one more, only the head of the longest idle one is kept (guess).
    open_streams: int = 16_384
    #: Heads of closed streams kept; for one more, the oldest is forgotten (docs/protocol.rst).
    closed_streams: int = 2**18
    #: Heads of closed streams kept of one author; if there are more, the lowest run is forgotten, and void
    #: (guess).
    closed_runs: int = 256
    #: Authors of whom this node notes that runs had ended before it joined (guess: four times
    #: ``members_limit``).
    ended_limit: int = 16_384
    #: Authors of which the lowest valid epoch is kept: four times as many as can be on the roster (guess).
    floors_limit: int = 16_384
    #: Messages that wait in one ``messages()``; further ones are read from the history later (10,000 was
    #: too few for a burst of short lines while a terminal was busy: measured).
    queue_limit: int = 100_000
    #: Bytes that wait in one ``messages()``, as packed (guess).
    queue_bytes: int = 16 * MIB
    #: Consumers with names; one more is refused (guess: each has a place in every open stream).
    consumers_limit: int = 16

    # Trees and repair.
    #: From an announcement to the WANT for the messages, since a push may still come (docs/protocol.rst).
    graft_timeout: float = 0.15
    #: Announcements are gathered for this long (docs/protocol.rst).
    have_delay: float = 0.03
    #: If a link brings nothing for this long after a WANT, another link is asked (guess).
    graft_retry: float = 1.0
    #: An answer to a WANT ends after this many bytes (docs/protocol.rst).
    answer_bytes: int = MIB
    #: From one comparison of the streams with each neighbour to the next (docs/protocol.rst).
    compare_interval: float = 30.0
    #: Claims kept of one link about the runs of authors; for one more, the oldest is forgotten (guess).
    claims_limit: int = 65_536
    #: Claims kept of all links together, beyond one of each link for every run and author known here; if
    #: there are more, the link with the most forgets half of its claims, or is closed (guess).
    claims_in_all: int = 131_072
    #: Bytes of messages held in memory for others; at the limit new authors have a quarter of it, and the
    #: author with the most bytes loses its oldest messages (docs/protocol.rst).
    history_bytes: int = 64 * MIB
    history_seconds: float = 600.0  #: From the time a message came until it is given up, at the latest.

    # Storing, if there is a history file.
    #: From a change to the flush that stores it; after a crash, messages of this time come again (guess).
    flush_interval: float = 0.05
    #: From one attempt to the next, if the history cannot be written or read (guess).
    store_retry: float = 5.0
    #: As ``history_bytes`` and ``history_seconds``, for messages in the file (docs/protocol.rst).
    store_bytes: int = 1024 * MIB
    store_seconds: float = 7 * 86_400.0

    # Logs and failures.
    #: Log lines about one remote host, or author, in an interval; the next line counts the others (guess).
    log_burst: int = 5
    log_interval: float = 60.0  #: The interval for ``log_burst`` and ``log_lines``.
    #: Hosts whose lines are counted; if there are more, the oldest is forgotten (guess).
    log_hosts: int = 1024
    #: Log lines about all authors together in an interval, and as many about all hosts together (guess).
    log_lines: int = 60
    #: Events ``refused`` in a row, and in a second on average; others are counted (guess).
    refusals_rate: float = 20.0
    #: The most events ``gap``, and ``failure`` about messages, that are told of one author in a
    #: ``log_interval`` (guess) ...
    losses_burst: int = 20
    #: ... and of all authors together: so many in a row, and so many a second on average.  Further events
    #: are told later, those of one run together (guess).
    losses_rate: float = 20.0
    #: Failures in a socket's ``status``; if there are more, the oldest is forgotten (guess).
    failures_limit: int = 100

    # The control socket.
    #: Clients at a time; the next is closed at once (guess).
    control_clients: int = 32
    #: Bytes of the body of a request, or of the answers to a query; a longer body is refused, and more
    #: answers are left out (guess).
    control_body_bytes: int = 2 * MIB
    #: The newest events that are kept while somebody reads them, and their bytes as JSON (guess).
    control_events: int = 1024
    control_bytes: int = 4 * MIB

    @property
    def longest_stop(self) -> float:
        """Seconds that it takes to stop at most: to hand messages over, to say goodbye, and to close.

        ``close_timeout`` counts twice, since Twisted may not tell the end of a connection that is cut.
        """
        return self.handover_timeout + self.farewell_timeout + 2 * self.close_timeout

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            number = (int,) if field.type == "int" else (int, float)
            may_be_none = field.name == "batch_delay" and value == 0
            if type(value) not in number or not (may_be_none or 0 < value < float("inf")):
                raise LocalError(f"{field.name} must be a positive {field.type}, not {value!r}")
        for is_right, rule in (
            (self.ping_after < self.dead_after, "ping_after must be below dead_after"),
            (self.gap_patience <= self.gap_longest, "gap_longest must be at least gap_patience"),
            (self.dial_again <= self.dial_longest, "dial_longest must be at least dial_again"),
            (self.redial_factor >= 1, "redial_factor must be 1 or more"),
            (self.redial_initial <= self.redial_longest, "redial_initial must be at most redial_longest"),
            (
                self.unsent_bytes >= 2 * MIB,
                "unsent_bytes must be at least 2 MiB, for the largest message",
            ),
            (
                self.half_frames_bytes >= 2 * MIB,
                "half_frames_bytes must be at least 2 MiB, for the largest frame",
            ),
            (self.batch_bytes <= MIB, "batch_bytes must be at most 1 MiB, the largest frame body"),
        ):
            if not is_right:
                raise LocalError(rule)

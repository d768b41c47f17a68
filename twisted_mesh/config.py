"""Every limit and interval of a node, in one frozen value.

Contract: nothing in the package has a bound or a wait that is not named here or, where both ends of
a link must agree, in :mod:`twisted_mesh.wire.framing`.  Times are seconds, sizes bytes.  Each
default says where it comes from: a paper or a measurement, or that it is a guess.
docs/limits.rst lists the same names with the policy at each limit.
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
    #: From the connection to the first frame behind PROOF (guess; py2p waits for ever).
    handshake_timeout: float = 10.0
    #: Accepted connections that have not proven themselves; the oldest is closed (guess).
    handshakes_limit: int = 512
    #: Links in all; one more is refused (guess; select-free reactors hold far more).
    links_limit: int = 1024
    #: How long a TCP connection may take to be made (Twisted's endpoints use 30; guess).
    connect_timeout: float = 10.0
    #: From our BYE to cutting the connection, if the peer does not close it (guess).
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
    #: ``disconnect()`` forbids dialling that peer again for so long (docs/protocol.rst).
    redial_forbidden: float = 60.0

    #: A node without a link dials those it was linked with before, after so long (guess).
    isolated_after: float = 5.0
    #: Addresses of such nodes that are kept (guess).
    address_book_limit: int = 64

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

    # Receiving.
    #: A hole without progress becomes a told gap after so long (docs/protocol.rst).
    gap_patience: float = 30.0
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
    #: A history that cannot be written is tried again in this interval (guess).
    store_retry: float = 5.0
    #: What the file holds: the largest author's oldest goes first (docs/protocol.rst).
    store_bytes: int = 1024 * MIB
    store_seconds: float = 7 * 86_400.0

    # Telling.
    #: Log lines for each remote host and interval; the rest is counted and told in one (guess).
    log_burst: int = 5
    log_interval: float = 60.0
    #: Hosts whose log lines are counted at a time; the oldest is forgotten (guess).
    log_hosts: int = 1024
    #: Failures a socket's ``status`` tells; the oldest is forgotten (guess).
    failures_limit: int = 100

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            number = (int,) if field.type == "int" else (int, float)
            may_be_none = field.name == "batch_delay" and value == 0
            if type(value) not in number or not (may_be_none or 0 < value < float("inf")):
                raise LocalError(f"{field.name} must be a positive {field.type}, not {value!r}")
        if self.ping_after >= self.dead_after:
            raise LocalError("ping_after must be below dead_after")
        if self.redial_factor < 1:
            raise LocalError("redial_factor must be 1 or more")
        if self.redial_initial > self.redial_longest:
            raise LocalError("redial_initial must be at most redial_longest")
        if self.unsent_bytes < 2 * MIB:
            raise LocalError("unsent_bytes must be at least 2 MiB, or the largest message never fits")
        if self.batch_bytes > MIB:
            raise LocalError("batch_bytes must be at most 1 MiB, the largest frame body")

"""The tables of a history file, of this version and of earlier ones.

Contract: the steps of each version turn its tables into the tables of the next version; one transaction
does all steps.  The tables are then the same, to the letter, as in a new file.
"""

from __future__ import annotations

from typing import Final, NamedTuple

VERSION: Final = 4
APPLICATION: Final = 0x6D657368  # the application_id of the file: "mesh" in ASCII

#: This text is compared with the text in the file, to find out whether the tables are others.  Batches are
#: in an ordinary table with an index: in a clustered table, rows of 1 KiB took 4 KiB (measured).
SCHEMA: Final = (
    """CREATE TABLE about (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    network BLOB NOT NULL,
    origin BLOB NOT NULL CHECK (typeof(origin) = 'blob' AND length(origin) = 32),
    settled INTEGER NOT NULL CHECK (settled IN (0, 1))
)""",
    """CREATE TABLE stream (
    origin BLOB NOT NULL CHECK (typeof(origin) = 'blob' AND length(origin) = 32),
    epoch INTEGER NOT NULL CHECK (typeof(epoch) = 'integer' AND epoch >= 0),
    id INTEGER NOT NULL CHECK (typeof(id) = 'integer'),
    head INTEGER NOT NULL CHECK (typeof(head) = 'integer' AND head >= 0),
    low INTEGER NOT NULL CHECK (typeof(low) = 'integer' AND low BETWEEN 1 AND head + 1),
    base INTEGER NOT NULL CHECK (typeof(base) = 'integer' AND base >= 0),
    taken INTEGER NOT NULL CHECK (typeof(taken) = 'integer' AND taken >= 0),
    equivocated INTEGER NOT NULL CHECK (equivocated IN (0, 1)),
    whole INTEGER NOT NULL CHECK (typeof(whole) = 'integer' AND whole >= 1),
    batches INTEGER NOT NULL CHECK (typeof(batches) = 'integer' AND batches >= 0),
    bytes INTEGER NOT NULL CHECK (typeof(bytes) = 'integer' AND bytes >= 0),
    oldest INTEGER NOT NULL CHECK (typeof(oldest) = 'integer'),
    newest INTEGER NOT NULL CHECK (typeof(newest) = 'integer'),
    header BLOB NOT NULL CHECK (typeof(header) = 'blob'),
    introducer TEXT CHECK (typeof(introducer) IN ('text', 'null')),
    PRIMARY KEY (origin, epoch)
) WITHOUT ROWID""",
    """CREATE TABLE batch (
    stream INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    arrived INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    payload BLOB NOT NULL
)""",
    "CREATE UNIQUE INDEX batch_order ON batch (stream, first)",
    """CREATE TABLE closed (
    id INTEGER PRIMARY KEY,
    origin BLOB NOT NULL CHECK (typeof(origin) = 'blob' AND length(origin) = 32),
    epoch INTEGER NOT NULL CHECK (typeof(epoch) = 'integer' AND epoch >= 0),
    head INTEGER NOT NULL CHECK (typeof(head) = 'integer' AND head >= 0),
    UNIQUE (origin, epoch)
)""",
    """CREATE TABLE author (
    id INTEGER PRIMARY KEY,
    origin BLOB NOT NULL UNIQUE CHECK (typeof(origin) = 'blob' AND length(origin) = 32),
    floor INTEGER NOT NULL CHECK (typeof(floor) = 'integer' AND floor >= 0),
    ended INTEGER NOT NULL CHECK (typeof(ended) = 'integer' AND ended >= 0)
)""",
    """CREATE TABLE consumer (
    name TEXT PRIMARY KEY CHECK (typeof(name) = 'text'),
    id INTEGER NOT NULL CHECK (typeof(id) = 'integer'),
    since INTEGER NOT NULL CHECK (typeof(since) = 'integer' AND since >= 0)
) WITHOUT ROWID""",
    """CREATE TABLE place (
    stream INTEGER NOT NULL CHECK (typeof(stream) = 'integer'),
    consumer INTEGER NOT NULL CHECK (typeof(consumer) = 'integer'),
    taken INTEGER NOT NULL CHECK (typeof(taken) = 'integer' AND taken >= 0),
    PRIMARY KEY (stream, consumer)
) WITHOUT ROWID""",
)


class Version(NamedTuple):
    """The tables of an earlier version.

    :ivar schema: the statements that made the tables.
    :ivar steps: statements that turn the tables into those of the next version; ``:origin`` stands for the
        origin of the node that opens the file.
    """

    schema: tuple[str, ...]
    steps: tuple[str, ...]


_ABOUT_1: Final = """CREATE TABLE about (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    network BLOB NOT NULL,
    settled INTEGER NOT NULL CHECK (settled IN (0, 1))
)"""
_SCHEMA_2: Final = SCHEMA[:5]  # version 3 has the table of authors besides
_OF_VERSION_2: Final = ("    header ", "    introducer ")  # columns of stream that version 1 lacks
_STREAM_1: Final = "\n".join(line for line in SCHEMA[1].split("\n") if not line.startswith(_OF_VERSION_2))
#: The batches of version 1 are deleted, since no node can verify their signatures any more.  The heads
#: stay, so that no message is delivered twice; messages that were not taken are told as a gap.
EARLIER: Final = {
    3: Version(SCHEMA[:6], SCHEMA[6:]),  # version 4 has the tables of consumers besides
    2: Version(_SCHEMA_2, (SCHEMA[5],)),
    1: Version(
        (_ABOUT_1, _STREAM_1, *_SCHEMA_2[2:]),
        (
            "CREATE TABLE old AS SELECT * FROM about",
            "DROP TABLE about",
            SCHEMA[0],
            "INSERT INTO about SELECT one, network, :origin, settled FROM old",
            "DROP TABLE old",
            "DELETE FROM batch",
            "CREATE TABLE old AS SELECT * FROM stream",
            "DROP TABLE stream",
            SCHEMA[1],
            "INSERT INTO stream SELECT origin, epoch, id, head, head + 1, base, taken, equivocated, whole, "
            "0, 0, 0, 0, x'', NULL FROM old",
            "DROP TABLE old",
        ),
    ),
}

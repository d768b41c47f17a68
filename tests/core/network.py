"""Frames and records as nodes would sign them; signatures are a stand-in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, TypeVar

from msgspec import structs

from tests.support.bodies import unpack_entries
from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.handshake import LocalNode, Peer
from twisted_mesh.core.link import Link
from twisted_mesh.errors import Reason
from twisted_mesh.identity import id_of
from twisted_mesh.network import Protocol
from twisted_mesh.simulation.keys import StandInKeys, stand_in_key
from twisted_mesh.wire import codec
from twisted_mesh.wire.bodies import join_entries, pack_entry
from twisted_mesh.wire.broadcast import Batch, Have, HaveEntry, Prune, SignedBatch, SnapshotEntry, Want
from twisted_mesh.wire.fields import MAX_NUMBER, Kind, MessageId
from twisted_mesh.wire.membership import (
    Contact,
    Forget,
    KeepVote,
    Presence,
    Purpose,
    Records,
    Roster,
    RosterEntry,
    Suspect,
)
from twisted_mesh.wire.replies import (
    Direct,
    DirectAck,
    DirectKey,
    Receipt,
    SealedMessage,
    SealedText,
    SignedReceipt,
    sealing_context,
)
from twisted_mesh.wire.signed import Record, SignedRecord

NETWORK = Protocol("tests", "Plaintext")
DIGEST = codec.network_digest(NETWORK.id)

E = TypeVar("E")
F = TypeVar("F", SignedBatch, SignedRecord, SignedReceipt)


def origin_of(name: str) -> bytes:
    """The stand-in for the public key of *name*."""
    return hashlib.sha256(name.encode()).digest()


def signature_of(origin: bytes, text: bytes) -> bytes:
    """The stand-in for a signature: anyone can make it, but no other bytes are right by chance."""
    return hashlib.sha512(origin + text).digest()


def verify(origin: bytes, signature: bytes, text: bytes) -> bool:
    """Whether *origin* has signed *text*."""
    return signature == signature_of(origin, text)


def local_node(
    name: str, epoch: int = 1, *, verify: Callable[[bytes, bytes, bytes], bool] = verify
) -> LocalNode:
    """The node *name* as it knows itself."""
    origin = origin_of(name)
    sign = partial(signature_of, origin)
    return LocalNode(id_of(origin), origin, epoch, NETWORK, None, False, sign, verify, StandInKeys(origin))


def peer(name: str, epoch: int = 1, settled: bool = False) -> Peer:
    """The node *name* as others see it."""
    origin = origin_of(name)
    return Peer(id_of(origin), origin, epoch, None, settled)


def contact_of(index: int) -> Contact:
    """The contact of node *index*, on a machine of its own."""
    return Contact(b"%032d" % index, f"10.{index >> 16}.{index >> 8 & 255}.{index & 255}", 4444 + index)


_CONFIG: Final = MeshConfig()  # to make one takes as long as ten links (measured)


def link_of(
    number: int,
    contact: Contact,
    purpose: Purpose = Purpose.NEIGHBOUR,
    *,
    outgoing: bool = False,
    host: str = "",
) -> Link:
    """A link to a peer that has proven to be the node at *contact*."""
    peer = Peer(contact.id, contact.id, 1, None, False)
    opened = events.LinkOpened(number, peer, outgoing, False, purpose, host or contact.host)
    return Link(opened, 0, _CONFIG)


def entries(*texts: object) -> list[bytes]:
    """A packed message for each of *texts*."""
    return [pack_entry(0, [text]) for text in texts]


def signed(batch: Batch, body: bytes) -> SignedBatch:
    """*batch* with *body* and the signature of its author."""
    made = codec.sign_batch(batch, body, DIGEST, partial(signature_of, batch.origin))
    _HASHES.setdefault((batch.origin, batch.epoch), {0: bytes(32)})[batch.last] = made.header.hash
    return made


#: Of each run, by the last message of a batch, the hash of the batch that was made last.
_HASHES: dict[tuple[bytes, int], dict[int, bytes]] = {}
_CHAINED: Final = 1000  # batches from the first of a run on whose predecessors are made if a test has not


def forget_hashes() -> None:
    """Let each test begin with authors that have signed nothing."""
    _HASHES.clear()


def previous(origin: bytes, epoch: int, first: int) -> bytes:
    """The hash of the header before *first*: of a batch that was made, or else of a single message."""
    made = _HASHES.setdefault((origin, epoch), {0: bytes(32)})
    if first - 1 in made or first > _CHAINED:
        return made.get(first - 1, bytes(32))
    for at in range(1, first):
        if at not in made:
            _single(origin, epoch, at)
    return made[first - 1]


def _single(origin: bytes, epoch: int, at: int) -> SignedBatch:
    header = Batch(origin, epoch, at, 1, 1000, 0, previous(origin, epoch, at))
    return signed(header, join_entries(entries(at)))


def batch(name: str, first: int, count: int = 1, *, epoch: int = 1) -> SignedBatch:
    """Messages *first* to *first* + *count* - 1 of *name*; each one's packet is its number."""
    origin, body = origin_of(name), join_entries(entries(*range(first, first + count)))
    return signed(Batch(origin, epoch, first, count, 1000, 0, previous(origin, epoch, first)), body)


def forged(signed: F) -> F:
    """*signed*, with a signature that nobody made."""
    return structs.replace(signed, signature=bytes(64))


def raw_batch(name: str, first: int, count: int, body: bytes, encoding: int = 0) -> SignedBatch:
    """A batch with any *body* that *name* has signed."""
    origin = origin_of(name)
    return signed(Batch(origin, 1, first, count, 1000, encoding, previous(origin, 1, first)), body)


def signed_record(record: Record) -> SignedRecord:
    """*record*, signed by the node that it comes from."""
    array = codec.pack(record)
    text = codec.signed_text(DIGEST, array, record.kind)
    return SignedRecord(record, signature_of(record.signer, text), array)


def receipt(
    member: str,
    author: str,
    low: int,
    high: int,
    *,
    epoch: int = 1,
    member_epoch: int = 1,
    hops: int = 0,
) -> SignedReceipt:
    """The receipt of *member* for messages *low* to *high* of *author*."""
    value = Receipt(origin_of(author), epoch, low, high, origin_of(member), member_epoch)
    array = codec.pack(value)
    text = codec.signed_text(DIGEST, array, Kind.RECEIPT)
    return SignedReceipt(signature_of(value.member, text), array, hops)


def direct(
    origin: str,
    destination: str,
    number: int,
    *,
    oldest: int = 1,
    epoch: int = 1,
    destination_epoch: int = 1,
    tries: int = 0,
    body: bytes | None = None,
    text: bytes | None = None,
    answers: MessageId | None = None,
    key: int = 1,
    count: int = 1,
    acknowledges: int = 0,
) -> SignedRecord:
    """The *number*-th message of *origin* for *destination*, and more; each packet is its number.

    :param body: that of each message, in place of its number.
    :param text: the text that is sealed, in place of that of the messages.
    :param key: the number of the destination's key with which the messages are sealed.
    :param count: how many messages there are.
    :param acknowledges: the last message of *destination* that *origin* acknowledges.
    """
    messages = [
        SealedMessage(join_entries([pack_entry(2, [at])]) if body is None else body, at, answers)
        for at in range(number, number + count)
    ]
    text = SealedText(messages).pack() if text is None else text
    ends = (origin_of(origin), epoch, origin_of(destination), destination_epoch, number, count)
    sealed = StandInKeys(b"").encrypt(text, key_of(destination, key), sealing_context(*ends))
    return signed_record(Direct(*ends, oldest, tries, acknowledges, sealed or b""))


def key_of(name: str, number: int = 1) -> bytes:
    """The *number*-th key with which others seal messages to *name*."""
    return stand_in_key(origin_of(name), number)


def opened(direct: Direct, name: str, number: int = 1) -> list[object]:
    """The packets of messages that were sealed with the *number*-th key of *name*."""
    keys = StandInKeys(origin_of(name))
    for _ in range(number):
        keys.renew()
    runs = (direct.origin, direct.epoch, direct.destination, direct.destination_epoch)
    text = keys.decrypt(direct.sealed, sealing_context(*runs, direct.first, direct.count))
    assert text is not None, "it was sealed with another key"
    messages = [unpack_entries(message.body) for message in SealedText.unpack(text).messages]
    return [packet for [entry] in messages for packet in entry[2:]]


def lacks_key(
    destination: str, origin: str, number: int, record: SignedRecord, *, destination_epoch: int = 1
) -> SignedRecord:
    """The answer of *destination*, which could not open the *number*-th message of *origin*."""
    ends = (origin_of(destination), destination_epoch, origin_of(origin), 1)
    return signed_record(DirectKey(*ends, number, 0, codec.payload(record)))


def acknowledged(
    destination: str,
    origin: str,
    number: int,
    *,
    epoch: int = 1,
    destination_epoch: int = 1,
    tries: int = 0,
) -> SignedRecord:
    """The acknowledgement of *destination* for the *number*-th message of *origin*."""
    ends = (origin_of(destination), destination_epoch, origin_of(origin), epoch)
    return signed_record(DirectAck(*ends, number, tries))


def asking(name: str, first: int, count: int = 1, *, epoch: int = 1) -> SignedBatch:
    """A batch of *name*, whose last message asks for receipts."""
    packed = [pack_entry(0, [at], asks=at == first + count - 1) for at in range(first, first + count)]
    origin = origin_of(name)
    header = Batch(origin, epoch, first, count, 1000, 0, previous(origin, epoch, first))
    return signed(header, join_entries(packed))


def presence(
    name: str, counter: int = 1, sequence: int = 0, epoch: int = 1, **more: object
) -> SignedRecord:
    """The *counter*-th presence of *name*, which has published *sequence* messages.

    :param more: other fields of the presence.
    """
    told = (sequence, None, 0, None, {}, 0, 30_000, 0, b"", 0, key_of(name))
    record = Presence(origin_of(name), epoch, counter, *told)
    return signed_record(structs.replace(record, **more))


def suspect(accuser: str, member: str, counter: int = 1, epoch: int = 1) -> SignedRecord:
    """The suspicion of *accuser*, which lost its link to *member* without a BYE."""
    return signed_record(Suspect(origin_of(accuser), origin_of(member), epoch, counter))


def forget(asker: str, member: str, counter: int = 1, epoch: int = 1) -> SignedRecord:
    """The request of *asker* to forget *member*, which is gone."""
    return signed_record(Forget(origin_of(asker), origin_of(member), epoch, counter))


def roster(
    *records: SignedRecord, age: float = 0, last: bool = True, vote: KeepVote = KeepVote.CONTENT
) -> Roster:
    """A roster of *records*, each *age* seconds old."""
    return Roster(last, _entries(records, int(age * 1000)), vote)


def records(*told: SignedRecord, age: int = 0) -> Records:
    """RECORDS with *told*, each *age* ms old."""
    return Records(_entries(told, age))


def _entries(records: Iterable[SignedRecord], age: int) -> list[RosterEntry]:
    return [RosterEntry(age, codec.payload(record)) for record in records]


def of(effects: Iterable[object], kind: type[E]) -> list[E]:
    """The *effects* of one *kind*, and the events and direct messages of that kind in other effects."""
    return [one for effect in effects for one in _inner(effect) if isinstance(one, kind)]


def _inner(effect: object) -> Iterable[object]:
    match effect:
        case events.Emit():
            return (effect.what,)
        case events.DeliverDirects():
            return effect.messages
        case _:
            return (effect,)


def closing(link: int, reason: Reason = Reason.DISCONNECT) -> events.LinkClosing:
    """One end closes a link; the usual reason is that its application wants that."""
    return events.LinkClosing(link, reason)


def cut(name: str, *counts: int, epoch: int = 1) -> None:
    """Let *name* sign batches of so many messages each, from the first of its run on."""
    first = 1
    for count in counts:
        batch(name, first, count, epoch=epoch)
        first += count


def entry(
    name: str,
    base: int,
    epoch: int = 1,
    low: int | None = None,
    high: int | None = None,
    count: int = 1,
) -> SnapshotEntry:
    """A peer's words about a stream: all to *high* has come, and from *low* on it holds that.

    The header of the last batch, of *count* messages, proves that there are so many.
    """
    high = base if high is None else high
    proof = codec.pack_header(batch(name, high - count + 1, count, epoch=epoch).header) if high else b""
    return SnapshotEntry(origin_of(name), epoch, high + 1 if low is None else low, high, base, proof)


def unproven(name: str, base: int, epoch: int = 1) -> SnapshotEntry:
    """As :func:`entry`, of a stream of which the peer does not know a header."""
    return structs.replace(entry(name, base, epoch), proof=b"")


def have(name: str, low: int, high: int, *, answer: bool = False, epoch: int = 1) -> Have:
    """A peer announces *low* to *high* of *name*."""
    return Have([HaveEntry(origin_of(name), epoch, low, high)], answer)


def want(name: str, first: int, last: int = MAX_NUMBER, *, epoch: int = 1) -> Want:
    """A peer asks for *first* to *last* of *name*."""
    return Want(origin_of(name), epoch, first, last, True)


def prune(*names: str) -> Prune:
    """A peer asks that messages of *names* be pushed to it no more."""
    return Prune([origin_of(name) for name in names])

"""Frames and runs as text, and the digest of a trace (the text of all frames of a simulation)."""

from __future__ import annotations

import hashlib

from twisted_mesh.core.events import StreamId
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import Have, Prune, SignedBatch, Want
from twisted_mesh.wire.membership import Presence, Suspect
from twisted_mesh.wire.replies import Direct, DirectAck, DirectKey, Receipts, SignedReceipt
from twisted_mesh.wire.signed import SignedRecord

AnyFrame = codec.Signed | codec.Plain


class TraceDigest:
    """The SHA-256 of a trace: two simulations with the same digest sent the same frames."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, line: str) -> None:
        """Add the next line of the trace."""
        self._hash.update(line.encode() + b"\n")

    def __str__(self) -> str:
        """64 hexadecimal digits."""
        return self._hash.hexdigest()


def show(run: StreamId) -> str:
    """A run as text: the first digits of its origin, and its epoch."""
    return f"{run[0].hex()[:6]}/{run[1]}"


def _receipt(signed: SignedReceipt) -> str:
    receipt = codec.receipt(signed.array)
    what = f"{show((receipt.origin, receipt.epoch))} {receipt.low}-{receipt.high}"
    return f"{what} by {show((receipt.member, receipt.member_epoch))}"


def describe(frame: AnyFrame) -> str:
    """A frame as text."""
    match frame:
        case SignedBatch(batch=batch):
            return f"BATCH {show((batch.origin, batch.epoch))} {batch.first}-{batch.last}"
        case Have(streams=streams):
            held = (f"{show((entry.origin, entry.epoch))} {entry.low}-{entry.high}" for entry in streams)
            return f"HAVE{' (answer)' if frame.answer else ''} {', '.join(held)}"
        case Want():
            return f"WANT {show((frame.origin, frame.epoch))} {frame.first}-{frame.last}"
        case Prune():
            return f"PRUNE {', '.join(origin.hex()[:6] for origin in frame.origins)}"
        case SignedRecord(record=Presence() as said):
            return f"PRESENCE {show((said.origin, said.epoch))} {said.counter}, at {said.sequence}"
        case SignedRecord(record=Suspect() as said):
            return f"SUSPECT {show((said.member, said.epoch))} {said.counter}, by {said.accuser.hex()[:6]}"
        case SignedRecord(record=Direct() | DirectAck() | DirectKey() as said):
            ends = [show((said.origin, said.epoch)), show((said.destination, said.destination_epoch))]
            numbers = f"{said.first}-{said.last}" if isinstance(said, Direct) else f"{said.number}"
            return f"{said.kind.name} {' to '.join(ends)} {numbers}, {frame.hops} hops"
        case Receipts(entries=entries):
            return f"RECEIPTS {', '.join(map(_receipt, entries))}"
        case _:
            return type(frame).__name__.upper()

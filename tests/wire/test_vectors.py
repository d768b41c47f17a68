"""Frames whose every byte is fixed, for authors of other implementations."""

from __future__ import annotations

import hashlib
import hmac
import re

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from msgspec.structs import astuple, replace
from twisted.trial.unittest import SynchronousTestCase

from tests.support.bodies import unpack_entries
from tests.support.certificates import CertificateAuthority, der
from tests.wire.samples import (
    EPOCH,
    IDENTITY,
    NETWORK,
    SIGNATURES,
    TESTS,
    VECTORS,
    payload,
    signed,
    text_of,
)
from twisted_mesh.core.handshake import Handshake, LocalNode, Side
from twisted_mesh.core.replies.routes import MOST_HOPS
from twisted_mesh.core.replies.senders import WINDOW
from twisted_mesh.errors import Reason
from twisted_mesh.identity import verify
from twisted_mesh.runtime.sealing import HpkeKeys
from twisted_mesh.wire import codec, framing, greeting, membership, unpack_guard
from twisted_mesh.wire.authority import (
    MAX_CUTS,
    MAX_POLICY,
    Cut,
    Grant,
    GrantContent,
    Policy,
    PolicyContent,
    Quota,
    Removed,
    Roles,
    unpack_grant,
)
from twisted_mesh.wire.bodies import ASKS, join_entries, pack_entry
from twisted_mesh.wire.broadcast import (
    MAX_BATCH_COUNT,
    MAX_HEADER,
    MAX_HEADERS,
    Batch,
    Bucket,
    Digest,
    Have,
    HaveEntry,
    Headers,
    Prune,
    SignedBatch,
    Snapshot,
    SnapshotEntry,
    Want,
)
from twisted_mesh.wire.codec import Frame, decode, encode, pack_policy
from twisted_mesh.wire.fields import MAX_CERTIFICATE, MAX_GRANT, Kind
from twisted_mesh.wire.framing import FrameReader
from twisted_mesh.wire.greeting import Greeting
from twisted_mesh.wire.link import Bye, Certificate, Intro, Knock, Ping, Pong, Proof, Whisper
from twisted_mesh.wire.membership import (
    Contact,
    Credential,
    Forget,
    ForwardJoin,
    Presence,
    Records,
    Roster,
    RosterEntry,
    Shuffle,
    ShuffleReply,
    Suspect,
)
from twisted_mesh.wire.replies import (
    MAX_RECEIPT,
    Direct,
    DirectAck,
    DirectKey,
    Receipt,
    Receipts,
    SealedMessage,
    SealedText,
    SignedReceipt,
    sealing_context,
)
from twisted_mesh.wire.signed import Record, SignedRecord
from twisted_mesh.wire.tracing import LagAnswer, WayQuestion

SEALING_KEY = X25519PrivateKey.from_private_bytes(bytes(range(64, 96)))
PSST = SealedText(
    [
        SealedMessage(join_entries([pack_entry(2, ["psst"])]), 5, (bytes(range(32)), 1, -4)),
        SealedMessage(join_entries([pack_entry(2, ["psst"])]), 6, None),
    ]
)
SEALED = 80 + 12 + len(PSST.pack()) + 16  # bytes, of which the first 92 are random

GREETING = Greeting(IDENTITY.id, NETWORK.id, ("192.0.2.1", 4444), True, 1_800_000_000)
MESSAGES = [
    [0, 0, "this is", "a test"],
    [0, 0x30, b"\x00\xff", 1.5, None, True, {"n": [1, -1]}],
]
BODY = join_entries([pack_entry(message[1], message[2:]) for message in MESSAGES])
BATCH = Batch(
    origin=IDENTITY.origin,
    epoch=EPOCH,
    first=1,
    count=2,
    sent=1_800_000_000_123,
    encoding=0,
    previous=bytes(32),
)
PRESENCE = Presence(
    origin=IDENTITY.origin,
    epoch=EPOCH,
    counter=3,
    sequence=8,
    address=("192.0.2.1", 4444),
    role=0,
    label="kitchen",
    tags={"floor": "1"},
    retention=600,
    interval=30_000,
    flags=1,
    credential=b"",
    floor=EPOCH - 1000,
    sealing_key=SEALING_KEY.public_key().public_bytes_raw(),
)
SUSPECT = Suspect(accuser=IDENTITY.origin, member=bytes(range(32)), epoch=1, counter=5)
FORGET = Forget(asker=IDENTITY.origin, member=bytes(range(32)), epoch=1, counter=5)
DIRECT = Direct(
    origin=IDENTITY.origin,
    epoch=EPOCH,
    destination=bytes(range(32)),
    destination_epoch=1,
    first=3,
    count=2,
    oldest=2,
    tries=1,
    acknowledged=9,
    sealed=payload(VECTORS["direct"])[-SEALED:],
)
DIRECT_ACK = DirectAck(
    destination=IDENTITY.origin,
    destination_epoch=EPOCH,
    origin=bytes(range(32)),
    epoch=1,
    number=3,
    tries=1,
)
DIRECT_KEY = DirectKey(*astuple(DIRECT_ACK), record=payload(VECTORS["presence"]))
RECORDS: dict[str, Record] = {
    "presence": PRESENCE,
    "suspect": SUSPECT,
    "forget": FORGET,
    "direct": DIRECT,
    "direct_ack": DIRECT_ACK,
    "direct_key": DIRECT_KEY,
}
RECEIPT = Receipt(
    origin=bytes(range(32)),
    epoch=1,
    low=5,
    high=8,
    member=IDENTITY.origin,
    member_epoch=EPOCH,
)
RECEIPT_ARRAY = codec.pack(RECEIPT)
RECEIPT_TEXT = codec.signed_text(codec.network_digest(NETWORK.id), RECEIPT_ARRAY, Kind.RECEIPT)
AUTHORITY = f"authority={IDENTITY.origin.hex()}"
GRANT_ARRAY = msgspec.msgpack.encode(
    GrantContent(
        network=NETWORK.key_with(AUTHORITY),
        id=IDENTITY.id,
        roles=Roles.LINK | Roles.AUTHOR,
        generation=1,
        serial=7,
    )
)
POLICY = PolicyContent(
    network=NETWORK.key_with(AUTHORITY),
    number=3,
    generation=2,
    removed=[Removed(bytes(range(32)), [Cut(epoch=1, number=8, hash=bytes(range(32, 64)))])],
)
POLICY_ARRAY = pack_policy(POLICY)
QUOTAS_ARRAY = pack_policy(
    replace(
        POLICY, number=4, quotas=[Quota(key=IDENTITY.origin, batches=10, size=65_536), Quota(b"", 50, 0)]
    )
)
CONTACT = Contact(id=IDENTITY.id, host="192.0.2.1", port=4444)
PLAIN: dict[str, Frame] = {
    "intro": Intro(
        version=1,
        epoch=EPOCH,
        role=0,
        settled=False,
        public_key=IDENTITY.origin,
        nonce=bytes(range(32, 64)),
        purpose=0,
        replay=0,
    ),
    "snapshot": Snapshot(
        last=True,
        streams=[
            SnapshotEntry(
                origin=IDENTITY.origin,
                epoch=EPOCH,
                low=1,
                high=2,
                base=2,
                proof=codec.pack_header(signed(BATCH, BODY).header),
            )
        ],
    ),
    "roster": Roster(
        last=True,
        entries=[RosterEntry(age=1500, frame=payload(VECTORS["presence"]))],
        vote=1,
    ),
    "records": Records(entries=[RosterEntry(age=1500, frame=payload(VECTORS["presence"]))]),
    "have": Have(
        streams=[
            HaveEntry(origin=IDENTITY.origin, epoch=EPOCH, low=3, high=8, hash=bytes(range(32))),
            HaveEntry(origin=bytes(range(32)), epoch=1, low=5, high=4),
        ],
        answer=True,
    ),
    "headers": Headers(headers=[codec.pack_header(signed(BATCH, BODY).header)]),
    "want": Want(origin=IDENTITY.origin, epoch=EPOCH, first=3, last=8, graft=True),
    "prune": Prune(origins=[IDENTITY.origin]),
    "whisper": Whisper(join_entries([pack_entry(2, ["psst"])])),
    "digest": Digest(
        buckets=[
            Bucket(
                number=IDENTITY.origin[0] // 4,
                digest=hashlib.sha256(
                    IDENTITY.origin
                    + EPOCH.to_bytes(8, "big")
                    + (8).to_bytes(8, "big")
                    + bytes(range(32))
                    + IDENTITY.origin
                    + (EPOCH + 1).to_bytes(8, "big")
                    + (9).to_bytes(8, "big")
                    + bytes(32)
                ).digest(),
            )
        ]
    ),
    "forward_join": ForwardJoin(contact=CONTACT, left=5, instead=False),
    "shuffle": Shuffle(token=7, contacts=[CONTACT], left=5),
    "shuffle_reply": ShuffleReply(token=7, contacts=[CONTACT]),
    "receipt": Receipts(
        entries=[SignedReceipt(signature=IDENTITY.sign(RECEIPT_TEXT), array=RECEIPT_ARRAY, hops=2, tries=1)]
    ),
    "grant": Grant(signature=IDENTITY.sign(b"twisted_mesh/1/grant" + GRANT_ARRAY), array=GRANT_ARRAY),
    "certificate": Certificate(
        certificate=der(
            CertificateAuthority("CA", key=IDENTITY.private_key).certify(
                IDENTITY.origin, 1_800_000_000, 1_900_000_000, ("node.example",)
            )
        )
    ),
    "policy": Policy(signature=IDENTITY.sign(b"twisted_mesh/1/policy" + POLICY_ARRAY), array=POLICY_ARRAY),
    "quotas": Policy(signature=IDENTITY.sign(b"twisted_mesh/1/policy" + QUOTAS_ARRAY), array=QUOTAS_ARRAY),
    "ping": Ping(7),
    "bye": Bye("leaving", "the node stops"),
}


class TestVectors(SynchronousTestCase):
    def test_each_vector_is_one_whole_frame(self) -> None:
        self.assertEqual(set(VECTORS), {"greeting", "knock", "proof", "batch", *RECORDS, *PLAIN})
        for frame in VECTORS.values():
            self.assertEqual(list(FrameReader().feed(frame)), [payload(frame)])

    def test_the_greeting(self) -> None:
        self.assertEqual(greeting.decode(payload(VECTORS["greeting"])), GREETING)
        self.assertEqual(greeting.encode(GREETING), VECTORS["greeting"])

    def test_the_proof(self) -> None:
        key = hashlib.sha256(b"twisted_mesh/1/network" + bytes(7) + b"\x04meshSSL").digest()
        self.assertEqual(key, NETWORK.key_with(""))
        said = VECTORS["greeting"] + VECTORS["intro"]
        part = len(said).to_bytes(8, "big") + said
        text = b"twisted_mesh/1/proofdialler" + hashlib.sha256(part + part + bytes(8)).digest()
        proof = Proof(IDENTITY.sign(text), hmac.digest(key, text, "sha256"))
        self.assertEqual(encode(proof), VECTORS["proof"])
        local_node = LocalNode(
            IDENTITY.id,
            IDENTITY.origin,
            EPOCH,
            NETWORK,
            GREETING.address,
            False,
            IDENTITY.sign,
            verify,
            HpkeKeys(),
        )
        shake = Handshake(Side.DIALLER, local_node, nonce=bytes(range(32, 64)), time=GREETING.time)
        shake._sent = shake._received = said
        self.assertEqual(shake._prove(bytes), VECTORS["proof"])

    def test_the_knock(self) -> None:
        def expand(info: bytes, length: int = 32) -> bytes:
            """HKDF-SHA-256 of the secret (RFC 5869), for up to 32 bytes."""
            extracted = hmac.digest(bytes(32), bytes(range(32)), "sha256")
            domain = b"twisted_mesh/1/secret/"
            return hmac.digest(extracted, domain + info + b"\x01", "sha256")[:length]

        network = hashlib.sha256(b"twisted_mesh/1/network" + bytes(7) + b"\x04meshSSLsecret").digest()
        self.assertEqual(network, NETWORK.key_with("secret"))
        text = b"twisted_mesh/1/knockdialler" + bytes(range(32, 64))
        knock = Knock(hmac.digest(expand(b"knock/" + network), text, "sha256"))
        self.assertEqual(encode(knock), VECTORS["knock"])
        self.assertEqual(expand(b"id", 8).hex(), "bcae4072443a2d53")
        self.assertIn("bcae4072443a2d53", TestDocumentation.page)

    def test_the_credential(self) -> None:
        extracted = hmac.digest(bytes(32), bytes(range(32)), "sha256")
        info = b"twisted_mesh/1/secret/author/" + NETWORK.key_with("secret") + b"\x01"
        key = hmac.digest(extracted, info, "sha256")
        text = b"twisted_mesh/1/author" + IDENTITY.origin
        credential = Credential(bytes.fromhex("bcae4072443a2d53"), hmac.digest(key, text, "sha256"), b"")
        self.assertIn(msgspec.msgpack.encode(credential).hex(), TestDocumentation.page)

    def test_the_network_of_a_grant_has_the_authority_in_its_key(self) -> None:
        key = hashlib.sha256(
            b"twisted_mesh/1/network" + bytes(7) + b"\x04meshSSL" + AUTHORITY.encode()
        ).digest()
        self.assertEqual(unpack_grant(GRANT_ARRAY).network, key)

    def test_the_unsigned_frames(self) -> None:
        for name, frame in PLAIN.items():
            self.assertEqual(decode(payload(VECTORS[name])), frame)
            self.assertEqual(encode(frame), VECTORS[name])  # type: ignore[arg-type]

    def test_the_signed_frames(self) -> None:
        for name, value in {"batch": BATCH, **RECORDS}.items():
            got = decode(payload(VECTORS[name]))
            assert isinstance(got, SignedBatch | SignedRecord)
            said = got.batch if isinstance(got, SignedBatch) else got.record
            self.assertEqual((said, got.hops), (value, 0))
            self.assertEqual(codec.pack(value), got.array)
            self.assertEqual(encode(got), VECTORS[name])
            text = text_of(codec.network_digest(NETWORK.id), got, Kind[name.upper()])
            self.assertTrue(verify(IDENTITY.origin, got.signature, text))
            self.assertEqual(IDENTITY.sign(text), got.signature)
            if isinstance(got, SignedBatch):
                self.assertEqual(unpack_entries(got.body, BATCH.count), MESSAGES)

    def test_signatures_are_verified_as_all_nodes_do_it(self) -> None:
        """Verifiers of Ed25519 differ in these; where nodes differed, an honest relay would be blamed."""
        for vector in SIGNATURES:
            key, signature, text = (bytes.fromhex(vector[part]) for part in ("key", "signature", "text"))
            self.assertIs(verify(key, signature, text), vector["good"], vector)

    def test_a_sealed_text_is_opened_with_the_key_of_its_destination(self) -> None:
        ends = (IDENTITY.origin, EPOCH, bytes(range(32)), 1, 3, 2)
        runs = (IDENTITY.origin, EPOCH.to_bytes(8, "big"), bytes(range(32)), (1).to_bytes(8, "big"))
        context = b"".join(
            (b"twisted_mesh/1/sealed", *runs, (3).to_bytes(8, "big"), (2).to_bytes(8, "big"))
        )
        self.assertEqual(sealing_context(*ends), context)
        suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
        content_key = suite.decrypt(DIRECT.sealed[:80], SEALING_KEY, info=b"twisted_mesh/1/content_key")
        text = ChaCha20Poly1305(content_key).decrypt(DIRECT.sealed[80:92], DIRECT.sealed[92:], context)
        body = b"\xc4\x09" + join_entries([pack_entry(2, ["psst"])])
        first = b"\x93" + body + b"\x05\x93\xc4\x20" + bytes(range(32)) + b"\x01\xfc"
        self.assertEqual(text, b"\x91\x92" + first + b"\x93" + body + b"\x06\xc0")
        self.assertEqual(SealedText.unpack(text), PSST)

    def test_a_receipt_is_signed_by_its_member(self) -> None:
        got = decode(payload(VECTORS["receipt"]))
        assert isinstance(got, Receipts)
        [signed] = got.entries
        self.assertEqual(codec.receipt(signed.array), RECEIPT)
        text = codec.signed_text(codec.network_digest(NETWORK.id), signed.array, Kind.RECEIPT)
        self.assertTrue(verify(RECEIPT.member, signed.signature, text))

    def test_a_message_that_asks_says_so_in_its_kind(self) -> None:
        self.assertEqual(pack_entry(0, ["x"], asks=True), b"\x93\x40\x00\xa1x")
        self.assertIn(f"*kind* {ASKS} ", TestDocumentation.page)

    def test_a_question_by_which_way_a_message_came(self) -> None:
        body = join_entries((WayQuestion(IDENTITY.origin, EPOCH, 3).pack(),))
        before, _, after = body.partition(IDENTITY.origin)
        told = f"``{before.hex(' ')}`` (the key) ``{after.hex(' ')}``"
        self.assertIn(told, " ".join(TestDocumentation.page.split()))

    def test_an_answer_how_far_behind_a_node_is(self) -> None:
        body = join_entries((LagAnswer(3, 200).pack(),))
        self.assertIn(f"``{body.hex(' ')}``", TestDocumentation.page)


class TestDocumentation(SynchronousTestCase):
    """docs/protocol.rst says what is built."""

    page = (TESTS.parent / "docs" / "protocol.rst").read_text("utf-8")

    def test_it_has_these_vectors_and_no_others(self) -> None:
        """Each vector is a paragraph that begins with its name, and a block of hex."""
        blocks = re.findall(r"^``(\w+)``:(?:.+\n)+\n((?: +[0-9a-f]+\n)+)", self.page, re.MULTILINE)
        found = {name: "".join(block.split()) for name, block in blocks}
        self.assertEqual(found, {name: frame.hex() for name, frame in VECTORS.items()})
        self.assertEqual(self.page.count("::\n\n    0000"), len(VECTORS))

    def test_it_has_every_kind_with_its_fields_in_order(self) -> None:
        rows = re.findall(r"^(\d+) +([A-Z_]+) +(.+\n(?: +.+\n)*)", self.page, re.MULTILINE)
        self.assertEqual({name: int(number) for number, name, _ in rows}, Kind.__members__)
        classes = {
            *(
                Forget,
                Knock,
                Records,
                Grant,
                Certificate,
                Policy,
                Intro,
                Proof,
                Snapshot,
                Roster,
                Batch,
                Have,
                Want,
                Prune,
                Presence,
                Suspect,
                Digest,
            ),
            Headers,
            *(ForwardJoin, Shuffle, ShuffleReply, Receipts, Direct, DirectAck, DirectKey, Ping, Pong, Bye),
        }
        inner = {
            Snapshot: SnapshotEntry,
            Roster: RosterEntry,
            Records: RosterEntry,
            Have: HaveEntry,
            Digest: Bucket,
            Receipts: SignedReceipt,
        }
        for name, text in ((name, text) for _, name, text in rows if name != "WHISPER"):
            called = {"RECEIPT": "RECEIPTS"}.get(name, name.replace("_", ""))
            (cls,) = (cls for cls in classes if cls.__name__.upper() == called)
            fields: list[str] = []
            for field in cls.__struct_fields__:
                fields.append(field)
                if field in ("streams", "buckets", "entries"):
                    fields += inner[cls].__struct_fields__
            self.assertEqual(re.findall(r"\*(\w+)\*", text), fields)

    def test_it_has_the_fields_of_a_receipt_in_order(self) -> None:
        text = self.page.partition("The *array* of a RECEIPT's entry")[2].partition("\n\n")[0]
        self.assertEqual(tuple(re.findall(r"\*(\w+)\*", text))[:6], Receipt.__struct_fields__)

    def test_it_has_the_fields_of_a_grant_in_order_and_its_roles(self) -> None:
        text = re.split(r"The \*array\* of a\s+GRANT", self.page)[1].partition("\n\n")[0]
        self.assertEqual(tuple(re.findall(r"\*(\w+)\*", text))[:5], GrantContent.__struct_fields__)
        for role in Roles:
            self.assertRegex(text, rf"\s{role},\s")

    def test_it_has_the_fields_of_a_policy_in_order(self) -> None:
        text = self.page.partition("The *array* of a POLICY")[2].partition("\n\n")[0]
        *first, quotas = PolicyContent.__struct_fields__
        fields = [*first, *Removed.__struct_fields__, *Cut.__struct_fields__]
        fields += [quotas, *Quota.__struct_fields__]
        self.assertEqual(re.findall(r"\*(\w+)\*", text)[: len(fields)], fields)

    def test_it_has_every_reason(self) -> None:
        table = self.page.partition("The reasons of a BYE:")[2].partition("\n---")[0]
        rows = re.findall(r"^``(\w+)`` +\S", table, re.MULTILINE)
        self.assertEqual(rows, [reason.value for reason in Reason])

    def test_it_has_every_limit(self) -> None:
        for limit in (
            framing.GREETING_FRAME_BYTES,
            framing.HANDSHAKE_FRAME_BYTES,
            framing.MAX_FRAME_BYTES,
            framing.MAX_MESSAGE_BYTES,
            codec.MAX_BATCH_ARRAY,
            MAX_BATCH_COUNT,
            codec.MAX_LATER,
            MAX_RECEIPT,
            MOST_HOPS,
            WINDOW,
            membership.MAX_RECORD,
            membership.MAX_RECORDS,
            membership.MAX_LABEL,
            membership.MAX_TAGS,
            MAX_HEADER,
            MAX_HEADERS,
            membership.MAX_TAG_KEY,
            membership.MAX_TAG_VALUE,
            membership.MAX_HOST,
            membership.MAX_CONTACTS,
            membership.MAX_WALK,
            membership.MAX_INTERVAL,
            unpack_guard.MAX_DEPTH,
            unpack_guard.MAX_NUMBER_KEYS,
            unpack_guard.MAX_CONTAINERS,
            greeting.MAX_BYTES,
            greeting.MAX_ID,
            greeting.NATIVE,
            MAX_GRANT,
            MAX_CERTIFICATE,
            MAX_POLICY,
            MAX_CUTS,
        ):
            shown = "0x6D657368" if limit == greeting.NATIVE else f"{limit:,}"
            self.assertRegex(self.page, rf"\b{shown}\b")

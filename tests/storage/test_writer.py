"""The writer and the node work with any store: they use only its interface."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.meshcase import MeshCase
from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.storage import BatchOrMissing, Flush, Flushed, Store, StoredRun, StoreSize
from twisted_mesh.errors import StoreError, StoreFull
from twisted_mesh.identity import Identity
from twisted_mesh.runtime.reporting import CANNOT_STORE
from twisted_mesh.runtime.settings import Settings
from twisted_mesh.service import MeshService
from twisted_mesh.simulation.storage import SimStore


class AnyStore:
    """A store that has the methods of the interface, and is opened anew in each run.

    :ivar is_full: whether nothing can be written.
    """

    name = "any store"

    def __init__(self, kept: SimStore) -> None:
        self._kept = kept
        self.restored = kept.restored()
        self.is_full = self.closed = False

    def flush(self, flush: Flush) -> Flushed:
        if self.is_full:
            raise StoreError(f"{self.name} is full")
        return self._kept.flush(flush, 0.0)

    def read(self, run: StreamId, first: int, last: int, most: int) -> Iterator[BatchOrMissing]:
        if self.closed:
            raise StoreError(f"{self.name} is closed")
        return self._kept.read(run, first, last, most)

    def first_since(self, run: StreamId, seconds: float) -> int | None:
        return self._kept.first_since(run, seconds)

    def runs(self) -> dict[StreamId, StoredRun]:
        return self._kept.runs()

    def is_overdue(self) -> bool:
        return False

    def footprint(self) -> dict[str, int]:
        return StoreSize(len(self._kept.restored().marks), 0, 0, 0, 0)._asdict()

    def close(self) -> None:
        self.closed = True

    def close_in_fork(self) -> None:
        self.closed = True


class TestAnyStore(MeshCase):
    def setUp(self) -> None:
        super().setUp()
        self.stores: list[AnyStore] = []
        kept = SimStore()

        def opened(_: Settings) -> Store:
            self.stores.append(AnyStore(kept))
            return self.stores[-1]

        self.a = self.node()
        self.patch(Settings, "open_history", opened)
        self.key = Identity.generate()
        self.b: MeshService = self.node(identity=self.key)
        self.link((self.a, self.b))

    def test_a_node_goes_on_from_what_it_has_stored(self) -> None:
        self.send(self.a, "before", after=1)
        self.assertEqual(self.b.footprint()["stored_streams"], 1)
        self.stop(self.b)
        self.assertTrue(self.stores[0].closed)
        self.a.send("meanwhile")
        again = self.node(identity=self.key)
        self.link((self.a, again), after=1)
        self.assertEqual((self.got(self.b), self.got(again)), (["before"], ["meanwhile"]))

    def test_while_it_is_full_nothing_is_sent(self) -> None:
        self.stores[0].is_full = True
        self.send(self.a, "received", after=1)
        self.assertEqual(self.got(self.b), ["received"])
        self.assertIn("any store cannot be written", str(self.assertRaises(StoreFull, self.b.send, "x")))
        self.assertIn(CANNOT_STORE, self.b.status().warnings)
        self.stores[0].is_full = False
        self.network.advance(self.b.config.store_retry + 1)
        self.assertNotIn(CANNOT_STORE, self.b.status().warnings)
        self.send(self.b, "sent", after=1)
        self.assertEqual(self.got(self.a), ["sent"])

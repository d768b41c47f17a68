"""The application can see how much was dropped or ignored; drops by a limit are logged."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.meshcase import MeshCase, batch
from twisted_mesh.core.events import EpochConflict
from twisted_mesh.core.node import DROPPED
from twisted_mesh.service import MeshService

SERVICE = Path(__file__).parent.parent.parent / "docs" / "service.rst"


class TestDropped(MeshCase):
    def setUp(self) -> None:
        super().setUp()
        self.a = self.node(limits={"waiting_bytes": 10_000})

    def drop(self, count: int) -> None:
        """Let *count* batches come behind a hole, where there is no room for them."""
        puppet = self.joined(self.a)
        for number in range(count):
            puppet.send(batch(puppet.me, 2 + number, b"x" * 20_000))
        self.network.pump()

    def seen(self, service: MeshService) -> dict[str, int]:
        """The kinds of drops that are not zero."""
        return {kind: count for kind, count in service.dropped.items() if count}

    def test_what_had_no_room_is_counted_and_told_once_an_interval(self) -> None:
        self.assertEqual(self.seen(self.a), {})
        self.drop(3)
        self.assertEqual(self.seen(self.a), {"no_room": 3})
        self.network.advance(60)
        self.assertEqual(self.log("dropped for"), ["dropped for want of room: 3 no_room"])
        self.drop(2)
        self.drop(2)
        self.network.advance(59)
        self.assertEqual(len(self.log("dropped for")), 1)
        self.network.advance(1)
        self.assertEqual(self.log("dropped for")[1:], ["dropped for want of room: 4 no_room"])
        self.network.advance(600)
        self.assertEqual(len(self.log("dropped for")), 2)

    def test_what_was_not_told_yet_is_told_at_the_end(self) -> None:
        self.drop(1)
        self.stop(self.a)
        self.assertEqual(self.log("dropped for"), ["dropped for want of room: 1 no_room"])

    def test_what_comes_twice_is_counted_and_no_line(self) -> None:
        puppet = self.joined(self.a)
        self.send_frames(puppet, *[batch(puppet.me, 1, "x")] * 3, after=60)
        self.assertEqual(self.seen(self.a), {"duplicates": 2})
        self.assertEqual(self.log("dropped for"), [])

    def test_messages_a_consumer_had_no_room_for_are_counted_as_well(self) -> None:
        b = self.node(limits={"queue_limit": 2})
        self.link((self.a, b))
        queue = b.messages()
        for number in range(5):
            self.a.routing_table[b.id].whisper(number)
        self.network.pump()
        self.assertEqual(b.dropped["dropped_messages"], 3)
        del queue
        self.assertEqual(self.seen(b), {"dropped_messages": 3})

    def test_it_is_of_all_runs_since_the_service_was_made_and_read_only(self) -> None:
        self.drop(2)
        self.parts_of(self.a)._epoch_conflict(EpochConflict(self.status_of(self.a).stream[1]))
        self.assertEqual(self.seen(self.a), {"no_room": 2})
        self.stop(self.a)
        self.assertEqual(self.seen(self.a), {"no_room": 2})
        self.a.startService()
        self.drop(1)
        self.assertEqual(self.seen(self.a), {"no_room": 3})
        self.assertFalse(hasattr(self.a.dropped, "clear"))

    def test_the_page_names_every_kind_and_those_of_which_is_told(self) -> None:
        _, limits, rest = SERVICE.read_text().split("\nKind", 2)
        by_a_limit, of_no_use = (
            set(re.findall(r"^``(\w+)`` ", part, flags=re.M)) for part in (limits, rest)
        )
        self.assertEqual(by_a_limit, DROPPED | {"dropped_messages", "dropped_refusals", "dropped_traces"})
        self.assertEqual(by_a_limit | of_no_use, set(self.node(overlay=True).dropped))

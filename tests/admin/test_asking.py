"""Requests, queries and pings over HTTP."""

from __future__ import annotations

import json
from typing import Any

from tests.admin.http_case import Client, HttpCase
from twisted_mesh.admin import asking
from twisted_mesh.message import Message
from twisted_mesh.service import MeshService


class AskingCase(HttpCase):
    """A node *a* asks; *b*, which is "db", answers, and *c* does not."""

    def setUp(self) -> None:
        super().setUp()
        self.a, self.b, self.c = self.linked(
            self.node(limits={"control_body_bytes": 500}), self.node(label="db"), self.node(), after=1
        )
        self.b.on("message", self.answer)
        self.serve(self.a)

    def answer(self, message: Message) -> None:
        """Answer a message, but not a whisper without a question."""
        message.reply("yes", *message.packets[1:])

    def post(self, path: str, after: float = 1, **body: Any) -> tuple[int, Any]:
        """The answer that comes within *after* seconds."""
        client = self.begin(path, **body)
        self.network.advance(after)
        return client.answer()

    def begin(self, path: str, **body: Any) -> Client:
        """A client that asks."""
        client = self.client()
        client.ask("POST", path, json.dumps(body))
        return client

    def named(self, node: MeshService, label: str | None = None) -> dict[str, Any]:
        """How an answer names *node*."""
        return {"id": node.id.decode(), "label": label}


class TestTraces(AskingCase):
    def test_the_newest_message_of_an_author_or_one_of_its_numbers(self) -> None:
        self.b.send("one")
        self.b.send("two")
        self.network.advance(1)
        for body in ({"author": "db"}, {"author": self.b.id.decode()[:6], "sequence": 2}):
            code, told = self.post("/trace", **body)
            self.assertEqual((code, told["author"], told["sequence"]), (200, self.b.id.decode(), 2))
            self.assertEqual({step["state"] for step in told["steps"]}, {"came"})
        code, told = self.post("/trace", author="db", epoch=told["epoch"], sequence=1, wait_seconds=1)
        self.assertEqual((code, len(told["steps"])), (200, 3))

    def test_a_message_of_a_guest(self) -> None:
        guest = self.linked(self.b, self.node(role="guest"), after=1)[1]
        guest.send("from outside")
        self.network.advance(1)
        code, told = self.post("/trace", author=guest.id.decode())
        self.assertEqual((code, {step["state"] for step in told["steps"]}), (200, {"came"}))
        self.assertEqual(self.post("/trace", author=guest.id.decode()[:8])[0], 404)

    def test_the_own_messages_and_those_that_are_none(self) -> None:
        name = self.a.id.decode()
        code, told = self.post("/trace", author=name)
        self.assertEqual(code, 404)
        self.assertIn("no message of", told["error"])
        self.a.send("one")
        self.network.advance(1)
        code, told = self.post("/trace", author=name)
        self.assertEqual((code, told["steps"][0]["source"]), (200, None))
        self.assertEqual(self.post("/trace", author="nobody")[0], 404)
        for body in ({}, {"author": 1}, {"author": "db", "sequence": 0}, {"author": "db", "epoch": -1}):
            self.assertEqual(self.post("/trace", **body)[0], 400)


class TestWhoHasWhat(AskingCase):
    def test_a_message_is_sent_at_once_and_its_receipt_asked_for_as_often_as_wanted(self) -> None:
        self.network.between(self.host(self.b), self.host(self.c))[1].reads = False
        sent = {"sent": True, "neighbours": 1, "receipt": 1}
        self.assertEqual(self.post("/send", 0, packets=["fire"], receipt=True), (200, sent))
        for _ in range(2):
            code, told = self.post("/receipt", receipt=1)
            self.assertEqual((code, told["complete"], told["pending"]), (200, False, [self.named(self.c)]))
        self.assertEqual(told["delivered"], [self.named(self.b, "db")])
        (open,) = self.ask("GET", "/receipts")[1]
        self.assertEqual((open["sequence"], open["pending"]), (told["sequence"], [self.c.id.decode()]))
        self.network.between(self.host(self.b), self.host(self.c))[1].reads = True
        code, told = self.post("/receipt", 20, receipt=1, wait_seconds=60)
        self.assertEqual((code, told["complete"], len(told["delivered"])), (200, True, 2))
        self.assertEqual(self.ask("GET", "/receipts"), (200, []))

    def test_each_node_says_how_many_messages_it_lacks(self) -> None:
        code, told = self.post("/lag")
        none = {"state": "up", "missing": 0, "untaken": 0}
        self.assertEqual((code, told[0]), (200, self.named(self.a) | none))
        self.assertIn(self.named(self.b, "db") | none, told)
        self.assertEqual(self.post("/lag", wait_seconds=-1)[0], 400)

    def test_the_newest_are_kept_and_what_is_no_receipt_is_refused(self) -> None:
        for body in ({"wait_seconds": 1}, {"to": "db"}):
            self.assertEqual(self.post("/send", packets=[1], receipt=True, **body)[0], 400)
        for body in ({}, {"receipt": "x"}, {"receipt": 1, "wait_seconds": 4000}):
            self.assertEqual(self.post("/receipt", **body)[0], 400)
        self.patch(asking, "RECEIPTS", 2)
        for number in (1, 2, 3):
            self.assertEqual(self.post("/send", packets=[1], receipt=True)[1]["receipt"], number)
        self.assertEqual(
            [self.post("/receipt", receipt=number)[0] for number in (0, 1, 2, 3)], [404, 404, 200, 200]
        )
        self.assertEqual(self.paths.status().footprint["control_receipts"], 2)
        self.paths.stop()
        self.assertEqual(self.paths.status().footprint["control_receipts"], 0)


class TestRequests(AskingCase):
    def test_the_answer_of_one_member(self) -> None:
        code, told = self.post("/request", to="db", packets=["?", {"$b": "AP8="}], type=50)
        yes = {"type": 2, "packets": ["yes", "?", {"$b": "AP8="}]}
        self.assertEqual((code, told), (200, self.named(self.b, "db") | yes))
        self.assertEqual(self.received(self.b)[0].type, 50)

    def test_no_answer_in_time_or_no_such_member(self) -> None:
        code, told = self.post("/request", to=self.c.id.decode(), packets=[1], wait_seconds=1)
        self.assertEqual(code, 504)
        name = self.c.id.decode()[:8]
        self.assertEqual(told["error"], f"{name}: it has the message, and did not answer in 1 s")
        self.b.remove_all_listeners("message")
        _, told = self.post("/request", to="db", packets=[1], wait_seconds=1)
        self.assertRegex(told["error"], r"^db \(\w{8}\): it has the message")
        code, told = self.post("/request", to="nobody", packets=[1])
        self.assertEqual(code, 404)
        self.assertIn("no member is named 'nobody'", told["error"])

    def test_a_client_that_goes_awaits_nothing_more(self) -> None:
        for path in ("/request", "/query"):
            client = self.begin(
                path, packets=[1], **({"to": self.c.id.decode()} if path != "/query" else {})
            )
            client.lose()
            self.network.advance(0)
        footprint = self.a.footprint()
        self.assertEqual((footprint["requests"], footprint["queries"]), (0, 0))

    def test_bodies_that_cannot_be_sent(self) -> None:
        for path, bodies in {
            "/request": ("{}", '{"packets": [1]}', '{"to": "db", "packets": [1], "wait_seconds": -1}'),
            "/query": ("{}", '{"packets": [1], "to": "db"}', '{"packets": [1], "type": 1}'),
            "/ping": ("[]", '{"packets": []}', '{"to": 1}', '{"wait_seconds": 4000}'),
        }.items():
            for body in bodies:
                code, told = self.ask("POST", path, body)
                self.assertEqual(code, 400, body)
                self.assertTrue(told["error"], body)

    def test_a_body_that_is_missing_asks_for_what_is_usual(self) -> None:
        client = self.client()
        client.protocol.dataReceived(b"POST /ping HTTP/1.1\r\nHost: node\r\n\r\n")  # as curl -X POST
        self.network.advance(5)
        code, told = client.answer()
        self.assertEqual((code, len(told)), (200, 2))
        lag = self.client()
        lag.ask("POST", "/lag")
        self.network.advance(5)
        self.assertEqual(lag.answer()[0], 200)


class TestQueries(AskingCase):
    def test_the_answers_and_who_has_not_answered(self) -> None:
        code, told = self.post("/query", 5, packets=["who?"], type=48)
        self.assertEqual(code, 200)
        self.assertEqual(
            told["answers"], [self.named(self.b, "db") | {"type": 2, "packets": ["yes", "who?"]}]
        )
        self.assertEqual((told["pending"], told["left_out"]), ([self.named(self.c)], 0))

    def test_it_ends_when_all_have_answered(self) -> None:
        self.c.on("message", self.answer)
        code, told = self.post("/query", 1, packets=["who?"])
        self.assertEqual((code, len(told["answers"]), told["pending"]), (200, 2, []))

    def test_more_answers_than_find_room_are_counted(self) -> None:
        self.c.on("message", self.answer)
        code, told = self.post("/query", 1, packets=["x" * 300])
        self.assertEqual((code, len(told["answers"]), told["left_out"]), (200, 1, 1))


class TestPings(AskingCase):
    def test_each_member_answers_with_its_round_trip(self) -> None:
        code, told = self.post("/ping")
        self.assertEqual(code, 200)
        self.assertCountEqual([one["id"] for one in told], [self.b.id.decode(), self.c.id.decode()])
        self.assertEqual([(one["state"], one["error"]) for one in told], [("up", None)] * 2)
        self.assertTrue(all(one["round_trip_seconds"] >= 0 for one in told))
        self.assertEqual(sorted(one["hops"] for one in told), [1, 2])
        self.assertEqual(self.received(self.b), [])

    def test_one_that_is_dead_does_not_answer(self) -> None:
        self.mesh.partition((0, 1), (2,))
        code, told = self.post("/ping", 5)
        self.assertEqual(code, 200)
        errors = {one["label"]: one["error"] for one in told}
        self.assertEqual(errors, {"db": None, None: "it did not answer in 5 s"})

    def test_one_member_alone_and_none_that_has_left(self) -> None:
        self.stop(self.c)
        for body in ({"to": "db"}, {}):
            code, told = self.post("/ping", **body)
            self.assertEqual((code, [one["label"] for one in told]), (200, ["db"]))

    def test_many_are_asked_turn_by_turn_and_a_client_that_goes_ends_that(self) -> None:
        self.patch(asking, "_AT_ONCE", 1)
        client = self.begin("/ping")
        self.assertEqual(self.a.footprint()["unacknowledged"], 1)
        self.network.advance(1)
        self.assertEqual(len(client.answer()[1]), 2)
        self.mesh.partition((0, 1), (2,))
        self.begin("/ping", wait_seconds=60).lose()
        self.assertEqual(self.a.footprint()["unacknowledged"], 0)
        client = self.begin("/ping", wait_seconds=60)
        self.network.advance(1)
        client.lose()
        self.assertEqual(self.a.footprint()["unacknowledged"], 0)
        self.assertEqual(self.flushLoggedErrors(), [])


class TestForgetting(AskingCase):
    def setUp(self) -> None:
        super().setUp()
        self.gone = self.keyed(label="old")
        self.link((self.gone, self.a), (self.a, self.c), after=1)
        self.stop(self.gone)

    def test_a_member_that_left_by_its_label_and_nobody_waits_for_it(self) -> None:
        waiting = self.begin("/send", packets=[1], wait_seconds=60)
        self.network.advance(1)
        self.assertEqual(waiting.received, "")
        told = {"forgotten": True, **self.named(self.gone, "old")}
        self.assertEqual(self.post("/forget", member="old"), (200, told))
        self.assertEqual(waiting.answer()[1]["complete"], True)
        members = [member["id"] for member in self.ask("GET", "/members")[1]]
        self.assertNotIn(self.gone.id.decode(), members)
        code, told = self.post("/forget", member="old")
        self.assertEqual((code, told["error"][:30]), (404, "no member is named 'old': give"))

    def test_a_receipt_names_the_node_that_had_a_member_forgotten(self) -> None:
        waiting = self.begin("/send", packets=[1], wait_seconds=60)
        self.c.forget(self.gone.id)
        self.network.advance(1)
        _, told = waiting.answer()
        missed = self.named(self.gone, "old") | {"forgotten_by": self.named(self.c)}
        self.assertEqual((told["complete"], told["missed"]), (False, [missed]))

    def test_one_that_is_up_stays(self) -> None:
        code, told = self.post("/forget", member="db")
        error = (
            f"db ({self.b.id.decode()[:8]}) is up: only members that are down or have left are forgotten"
        )
        self.assertEqual((code, told), (409, {"error": error}))
        self.assertEqual(self.ask("POST", "/forget", "{}")[0], 400)

    def test_of_two_with_one_name_the_one_that_is_gone_is_meant(self) -> None:
        self.stop(self.b)
        again = self.node(label="db")
        self.link((again, self.a), after=1)
        self.assertEqual(self.post("/forget", member="db")[1]["id"], self.b.id.decode())

    def test_a_guest_asks_nobody(self) -> None:
        guest = self.node(role="guest")
        self.linked(guest, self.c, after=1)
        self.stop(self.b)
        self.serve(guest)
        code, told = self.post("/forget", member="db")
        self.assertEqual((code, told["error"][:23]), (400, "this node is a guest: n"))

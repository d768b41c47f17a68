"""The HTTP paths of a node: answers, errors and bounds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.testing import StringTransport, StringTransportWithDisconnection

from tests.admin.http_case import Client, HttpCase
from twisted_mesh.admin.asking import GRAPH_SECONDS, GRAPH_TIMEOUT
from twisted_mesh.admin.guard import Guard, Token
from twisted_mesh.admin.http import Paths
from twisted_mesh.admin.page import FILES
from twisted_mesh.admin.recent import KEPT_AFTER
from twisted_mesh.admin.site import IDLE_SECONDS, REQUEST_SECONDS
from twisted_mesh.admin.streams import BEAT, PATIENCE
from twisted_mesh.cli.json_values import MAX_VALUES
from twisted_mesh.delivery.traces import MOST_OPEN
from twisted_mesh.errors import StoreError
from twisted_mesh.service import MeshService
from twisted_mesh.wire.unpack_guard import MAX_NUMBER_KEYS

DOCS = Path(__file__).parent.parent.parent / "docs"


class TestReading(HttpCase):
    def setUp(self) -> None:
        super().setUp()
        self.a, self.b = self.linked(self.node(label="web1"), self.node(label="db"), after=1)
        self.serve(self.a)

    def test_the_status_and_its_parts(self) -> None:
        status = json.loads(msgspec.json.encode(self.a.status()))
        code, told = self.ask("GET", "/status")
        self.assertEqual((code, told["node"], told["members"]), (200, status["node"], status["members"]))
        for part in ("links", "members", "authors"):
            code, told = self.ask("GET", f"/{part}")
            self.assertEqual((code, len(told)), (200, len(status[part])))
        self.assertEqual(self.ask("GET", "/members")[1][0]["label"], "db")

    def test_health_is_ok_and_ready_once_the_node_has_joined(self) -> None:
        self.assertEqual(self.ask("GET", "/healthz"), (200, {"status": "ok"}))
        self.assertEqual(self.ask("GET", "/readyz"), (200, {"status": "ready", "warnings": []}))

    def test_a_node_without_neighbours_is_not_ready_and_says_why(self) -> None:
        self.serve(self.node())
        self.network.advance(40)
        code, told = self.ask("GET", "/readyz")
        self.assertEqual(code, 503)
        self.assertIn("no neighbour for 40 s", told["error"])
        self.assertEqual(self.ask("GET", "/healthz")[0], 200)

    def test_a_path_or_a_method_that_is_none_is_told_which_there_are(self) -> None:
        for path in ("/nothing", "/nothing.js", "/a/b"):
            code, told = self.ask("GET", path)
            self.assertEqual(code, 404)
            self.assertIn("/status", told["error"])
        self.assertEqual(self.ask("POST", "/status"), (405, {"error": "this path takes GET alone"}))
        self.assertEqual(self.ask("GET", "/send"), (405, {"error": "this path takes POST alone"}))
        self.assertEqual(self.ask("POST", "/events"), (405, {"error": "this path takes GET alone"}))

    def test_head_is_get_without_the_body(self) -> None:
        for path in ("/healthz", "/metrics", "/send", "/nothing", "/events"):
            get, head = self.client(), self.client()
            get.ask("GET", path)
            head.ask("HEAD", path)
            wanted, _, _ = get.received.partition("\r\n\r\n")
            told, _, body = head.received.partition("\r\n\r\n")
            parts = [
                {line for line in each.splitlines() if not line.startswith(("Date:", "Transfer-Encoding:"))}
                for each in (wanted, told)
            ]
            self.assertEqual((parts[1], body), (parts[0], ""))
            self.assertFalse(head.transport.connected)
        self.assertEqual(self.recent.footprint()["control_readers"], 1)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_metrics_are_in_the_format_of_prometheus(self) -> None:
        self.a.messages(name="billing").close()
        self.b.send("x")
        self.network.advance(1)
        self.a.send("x")
        self.network.advance(60)  # a minute is given to the consumer's program
        client = self.client()
        client.ask("GET", "/metrics")
        self.assertIn("Content-Type: text/plain; version=0.0.4", client.received)
        lines = client.received.splitlines()
        for line in (
            "mesh_messages_sent_total 1.0",
            "mesh_links 1.0",
            'mesh_members{state="up"} 1.0',
            'mesh_members{state="down"} 0.0',
            'mesh_dropped_total{kind="no_room"} 0.0',
            'mesh_table_entries{table="control_readers"} 0.0',
            "mesh_warnings 1.0",
            'mesh_delivery_lag_messages{consumer=""} 1.0',
            'mesh_delivery_lag_messages{consumer="billing"} 1.0',
        ):
            self.assertIn(line, lines)


class TestPaths(HttpCase):
    def test_the_reference_and_its_file_for_programs_have_every_path(self) -> None:
        root = Paths(self.network.clock, self.make(), None).root()  # type: ignore[arg-type]
        paths = {}
        for name, resource in root.children.items():
            if name in set(FILES) - {b""}:
                continue  # the page's own
            methods = getattr(resource, "allowedMethods", (b"GET",))
            paths[f"/{name.decode()}"] = {method.decode().lower() for method in methods}
        described = json.loads((DOCS / "openapi.json").read_text())["paths"]
        self.assertEqual({path: set(methods) for path, methods in described.items()}, paths)
        page = (DOCS / "http.rst").read_text()
        told = {path: {method.lower()} for method, path in re.findall(r"``(GET|POST) (/[\w.]*)``", page)}
        self.assertEqual(told, paths)


class TestPage(HttpCase):
    def setUp(self) -> None:
        super().setUp()
        self.a, self.b = self.linked(self.node(label="web1"), self.node(), after=1)
        self.serve(self.a, Guard(Token(Path("token"), "t" * 32)))

    def got(self, path: str, method: str = "GET") -> str:  # type: ignore[override]
        """All that comes for a request without a token."""
        client = self.client()
        client.ask(method, path, Host="127.0.0.1:8420")
        return client.received

    def test_its_files_need_no_token_and_their_policy_lets_nothing_else_in(self) -> None:
        for path, kind in (("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")):
            head, _, body = self.got(path).partition("\r\n\r\n")
            self.assertIn(f"Content-Type: {kind}; charset=utf-8", head)
            self.assertIn("Content-Security-Policy: default-src 'none'; script-src 'self'; ", head)
            self.assertNotIn("'unsafe", head)
            self.assertNotIn("web1", body)
            self.assertEqual(self.got(path, "HEAD").partition("\r\n\r\n")[2], "")
        for path in ("//", "/?x", "/page", "/page.js/", "/status", "/%70age.js"):
            self.assertIn(" 401 ", self.got(path).partition("\r\n")[0], path)
        self.assertIn(" 405 ", self.got("/", "POST").partition("\r\n")[0])

    def test_it_loads_nothing_from_elsewhere_and_makes_no_markup_of_text(self) -> None:
        texts = [self.got(path).partition("\r\n\r\n")[2] for path in ("/", "/page.js", "/page.css")]
        found = re.findall(r"(?:https?:)?//[\w.]+\.\w+[^\s\"']*", "".join(texts))
        self.assertEqual(set(found), {"http://www.w3.org/2000/svg"})
        for sink in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "srcdoc",
            " style=",
        ):
            self.assertNotIn(sink, "".join(texts))

    def test_where_it_is_is_told(self) -> None:
        self.serve(self.a)
        code, told = self.ask("GET", "/page")
        self.assertEqual(code, 404)
        self.assertIn("--http tcp:8420:interface=127.0.0.1 --http-token FILE", told["error"])

    def test_the_graph_is_asked_once_for_all_that_want_it(self) -> None:
        self.serve(self.a)
        asked: list[object] = []
        graph = self.a.graph
        self.patch(self.a, "graph", lambda timeout: asked.append(timeout) or graph(timeout))
        clients = [self.client() for _ in range(3)]
        for client in clients:
            client.ask("GET", "/graph")
        self.network.advance(1)
        ids = {self.a.id.decode(), self.b.id.decode()}
        for client in clients:
            code, told = client.answer()
            self.assertEqual((code, {each["id"] for each in told}), (200, ids))
        self.assertEqual((self.ask("GET", "/graph"), len(asked)), ((200, told), 1))
        self.network.advance(GRAPH_SECONDS + 1)
        client = self.client()
        client.ask("GET", "/graph")
        self.network.advance(1)
        self.assertEqual((client.answer()[0], len(asked)), (200, 2))

    def test_a_graph_that_was_asked_for_while_the_node_was_stopped_is_asked_anew(self) -> None:
        self.serve(self.a)
        self.stop(self.a)
        self.assertEqual(self.ask("GET", "/graph")[0], 503)
        self.a.startService()
        self.network.advance(5)
        client = self.client()
        client.ask("GET", "/graph")
        self.network.advance(GRAPH_TIMEOUT)
        self.assertEqual(client.answer()[0], 200)

    def test_a_graph_that_is_too_old_is_not_kept(self) -> None:
        self.serve(self.a)
        self.client().ask("GET", "/graph")
        self.network.advance(1)
        kept = self.ask("GET", "/status")[1]["footprint"]["graph_neighbours"]
        self.network.advance(GRAPH_SECONDS + 1)
        self.assertEqual((kept, self.ask("GET", "/status")[1]["footprint"]["graph_neighbours"]), (2, 0))

    def test_a_graph_that_cannot_be_asked_is_told_as_such(self) -> None:
        self.serve(self.a)
        traces = [self.a.trace((b"x" * 32, 1, 1)) for _ in range(MOST_OPEN)]
        self.assertEqual(self.ask("GET", "/graph")[0], 503)
        self.network.advance(GRAPH_SECONDS + 1)
        self.assertEqual(len([self.successResultOf(each) for each in traces]), MOST_OPEN)


class TestSending(HttpCase):
    def setUp(self) -> None:
        super().setUp()
        self.a, self.b = self.linked(self.node(), self.node(label="db"), after=1)
        self.serve(self.a)

    def send(self, **body: Any) -> tuple[int, Any]:  # type: ignore[override]
        """The answer to ``POST /send``."""
        return self.ask("POST", "/send", json.dumps(body))

    def test_a_message_goes_to_everybody(self) -> None:
        self.assertEqual(
            self.send(packets=["fire", 1, None, {"$b": "AP8="}], type=48),
            (200, {"sent": True, "neighbours": 1}),
        )
        self.network.pump()
        (message,) = self.received(self.b)
        self.assertEqual(message.packets, [48, "fire", 1, None, b"\x00\xff"])

    def test_a_node_that_may_only_listen_says_so(self) -> None:
        self.patch(self.parts_of(self.a), "_why_silent", "it listens only")
        self.assertEqual(self.send(packets=["no"]), (403, {"error": "it listens only"}))

    def test_with_a_wait_the_answer_says_who_has_it(self) -> None:
        client = self.client()
        client.ask("POST", "/send", json.dumps({"packets": ["fire"], "wait_seconds": 10}))
        self.network.advance(1)
        code, told = client.answer()
        db = {"id": self.b.id.decode(), "label": "db"}
        self.assertEqual(
            (code, told["complete"], told["delivered"], told["pending"]), (200, True, [db], [])
        )
        self.assertEqual(told["sequence"], 1)

    def test_the_answer_names_who_has_not_got_it_in_time(self) -> None:
        self.network.between(self.host(self.a), self.host(self.b))[1].reads = False
        client = self.client()
        client.ask("POST", "/send", json.dumps({"packets": ["fire"], "wait_seconds": 2}))
        self.network.advance(2)
        code, told = client.answer()
        self.assertEqual((code, told["complete"]), (200, False))
        self.assertEqual([each["label"] for each in told["pending"]], ["db"])
        self.assertIn("1 of 1 member has not taken the message after 2 s", told["error"])

    def test_a_client_that_goes_waits_no_more(self) -> None:
        self.network.between(self.host(self.a), self.host(self.b))[1].reads = False
        client = self.client()
        client.ask("POST", "/send", json.dumps({"packets": ["fire"], "wait_seconds": 1000}))
        client.lose()
        ends = [call.getTime() for call in self.network.clock.getDelayedCalls()]
        self.assertLess(max(ends), self.network.clock.seconds() + 900)

    def test_one_member_by_its_label_its_id_or_the_beginning_of_it(self) -> None:
        for number, name in enumerate(("db", self.b.id.decode(), self.b.id.decode()[:6])):
            client = self.client()
            client.ask("POST", "/send", json.dumps({"packets": [number], "to": name}))
            self.network.advance(1)
            told = {"acknowledged": True, "member": self.b.id.decode(), "label": "db"}
            self.assertEqual(client.answer(), (200, told))
        self.assertEqual(self.got(self.b), [0, 1, 2])

    def test_a_wait_for_one_member_that_is_over_says_that_it_may_still_come(self) -> None:
        self.network.between(self.host(self.a), self.host(self.b))[1].reads = False
        client = self.client()
        client.ask("POST", "/send", json.dumps({"packets": [1], "to": "db", "wait_seconds": 2}))
        self.network.advance(2)
        told = {"error": "the member has not acknowledged it after 2 s; it may still get it"}
        self.assertEqual(client.answer(), (504, told))

    def test_a_name_that_fits_nobody_or_several(self) -> None:
        self.linked(self.b, self.node(label="db"), after=1)
        code, told = self.send(packets=[1], to="web")
        self.assertEqual(
            (code, told["error"]),
            (404, "no member is named 'web': give a label, an id, or at least 4 characters of one"),
        )
        code, told = self.send(packets=[1], to="db")
        self.assertEqual(code, 404)
        self.assertIn("2 members are named 'db'; give one of the ids: ", told["error"])

    def test_the_beginning_of_an_id_is_not_taken_by_a_label(self) -> None:
        beginning = self.b.id.decode()[:8]
        self.linked(self.b, self.node(label=beginning), after=1)
        code, told = self.send(packets=["secret"], to=beginning)
        self.assertEqual(code, 404)
        self.assertIn(f"2 members are named {beginning!r}", told["error"])

    def test_a_member_that_left_is_not_meant_by_its_label(self) -> None:
        again = self.node(label="db")
        self.stop(self.b, after=1)
        self.linked(self.a, again, after=1)
        client = self.client()
        client.ask("POST", "/send", json.dumps({"packets": [1], "to": "db"}))
        self.network.advance(1)
        self.assertEqual(client.answer()[1]["member"], again.id.decode())

    def test_bodies_that_cannot_be_sent(self) -> None:
        for body in (
            "",
            "nonsense",
            "[]",
            "{}",
            '{"packets": 1}',
            '{"packets": [], "more": 1}',
            '{"packets": [{"$x": 1}]}',
            '{"packets": [1], "wait_seconds": -1}',
            '{"packets": [1], "wait_seconds": 1e9}',
            '{"packets": [1], "type": 1}',
            '{"packets": [340282366920938463463374607431768211456]}',
        ):
            code, told = self.ask("POST", "/send", body)
            self.assertEqual(code, 400, body)
            self.assertTrue(told["error"], body)
        self.assertEqual(self.got(self.b), [])

    def test_a_body_that_is_wrong_is_told_what_is_wrong_with_it(self) -> None:
        for body, why in (
            ("", '"packets" is missing'),
            ("{", "this one is no JSON: Input data was truncated"),
            ("nonsense", "this one is no JSON: invalid character (byte 4)"),
            ("{}", '"packets" is missing'),
            ('{"packets": [], "more": 1}', '"more" is none of its fields'),
            ('{"packets": 1}', "in this one: Expected `array`, got `int` - at `$.packets`"),
            ("[]", "in this one: Expected `object`, got `array`"),
        ):
            code, told = self.ask("POST", "/send", body)
            self.assertEqual(
                (code, told["error"]), (400, f'the body must look like {{"packets": […]}}; {why}')
            )
        code, told = self.ask("POST", "/send", '{"packets": [{"$x": 1}]}')
        self.assertIn("in this one: an object whose key begins with $ is", told["error"])
        code, told = self.ask("POST", "/forget", "{}")
        told_to = 'the body must look like {"member": "name"} or {"consumer": "name"}'
        self.assertEqual((code, told["error"]), (400, told_to))

    def test_a_message_that_is_too_large(self) -> None:
        code, told = self.send(packets=["x" * 2**20])
        self.assertEqual(code, 400)
        self.assertIn("at most 1048576 are allowed", told["error"])

    def test_a_node_that_is_congested_says_so(self) -> None:
        self.network.between(self.host(self.a), self.host(self.b))[1].reads = False
        self.fill(self.a)
        code, _ = self.send(packets=["x" * 500_000])
        self.assertEqual(code, 503)


class TestBounds(HttpCase):
    def served(self, **limits: Any) -> MeshService:
        """A node that answers, with these limits."""
        node = self.node(limits=limits)
        self.serve(node)
        return node

    def test_one_client_too_many_is_closed(self) -> None:
        self.served(control_clients=2)
        first, _ = self.client(), self.client()
        self.assertIsNone(self.factory.buildProtocol(None))
        first.lose()
        self.client()

    def test_a_body_that_is_too_long_is_refused(self) -> None:
        self.served(control_body_bytes=100)
        self.assertEqual(self.ask("POST", "/send", b"x" * 101), (413, {"error": "the body is too long"}))
        self.assertEqual(self.ask("POST", "/send", b"x" * 100)[0], 400)

    def test_a_client_that_says_nothing_is_cut(self) -> None:
        self.served()
        client = self.client()
        client.protocol.dataReceived(b"GET /sta")
        self.network.advance(IDLE_SECONDS + 1)
        self.assertTrue(client.transport.disconnecting or not client.transport.connected)

    def test_an_answer_that_nobody_reads_is_cut(self) -> None:
        node = self.served()
        client = Client(self.factory.buildProtocol(None), StringTransport())
        client.ask("GET", "/status")
        self.assertEqual(client.answer()[1]["node"]["id"], node.id.decode())
        self.network.advance(REQUEST_SECONDS - 1)
        self.assertFalse(client.transport.disconnected)
        self.network.advance(1)
        self.assertTrue(client.transport.disconnected)
        client.lose()

    def test_a_connection_has_one_request(self) -> None:
        self.served()
        client = self.client()
        client.protocol.dataReceived(b"GET /healthz HTTP/1.1\r\nHost: node\r\n\r\n" * 5)
        self.assertEqual(client.received.count("HTTP/1.1 200"), 1)
        self.assertFalse(client.transport.connected)

    def test_a_body_that_does_not_end_is_refused_as_soon_as_it_is_too_long(self) -> None:
        self.served(control_body_bytes=100)
        for head in (b"Transfer-Encoding: chunked\r\n\r\n65\r\n", b"Content-Length: 999999\r\n\r\n"):
            client = self.client()
            client.protocol.dataReceived(b"POST /send HTTP/1.1\r\nHost: node\r\n" + head + b"x" * 101)
            self.assertEqual(client.answer(), (413, {"error": "the body is too long"}))
            self.assertFalse(client.transport.connected)

    def test_a_request_that_comes_byte_by_byte_is_cut(self) -> None:
        self.served()
        client = self.client()
        client.protocol.dataReceived(b"POST /send HTTP/1.1\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(int(REQUEST_SECONDS / 20)):
            client.protocol.dataReceived(b"x")
            self.network.advance(20)
        self.assertFalse(client.transport.connected)

    def test_json_that_is_deep_or_has_too_many_lists_is_refused(self) -> None:
        self.served()
        for packets in ("[" * 900 + "]" * 900, "[" + "[]," * 20_000 + "[]]", "[" * 70 + "]" * 70):
            code, told = self.ask("POST", "/send", f'{{"packets": {packets}}}')
            self.assertEqual(code, 400, told)

    def test_bodies_that_would_take_seconds_to_read_are_refused(self) -> None:
        self.served()
        pairs = [[number * (2**61 - 1), 1] for number in range(MAX_NUMBER_KEYS + 1)]  # all have one hash
        for packets in (
            "[" + "1," * MAX_VALUES + "1]",
            "[[" + "1," * (MAX_VALUES // 2) + "1],[" + "1," * (MAX_VALUES // 2) + "1]]",
            json.dumps([{"$d": pairs}]),
            json.dumps([{"$d": [[f"{number}", 1] for number in range(MAX_VALUES // 2)]}]),
            "[1e999]",
        ):
            code, told = self.ask("POST", "/send", f'{{"packets": {packets}}}')
            self.assertEqual(code, 400, packets[:99])
            self.assertRegex(told["error"], r"more than \d+ (values|numbers as keys)$|1e999 is too large")
        self.assertEqual(self.ask("POST", "/send", '{"packets": [%s0.5]}' % ("1e-300," * 99_999))[0], 200)

    def test_three_quarters_of_the_clients_may_follow_events(self) -> None:
        self.served(control_clients=4)
        for _ in range(3):
            self.client().ask("GET", "/events")
        self.assertEqual(self.ask("GET", "/messages")[0], 503)
        self.assertEqual(self.ask("GET", "/healthz")[0], 200)


class Narrow(StringTransportWithDisconnection):
    """A transport that has enough after each write."""

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.producer is not None:
            self.producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))


class TestStreams(HttpCase):
    def setUp(self) -> None:
        super().setUp()
        self.a, self.b = self.linked(
            self.node(limits={"control_events": 4, "control_bytes": 3000}), self.node(label="db"), after=1
        )
        self.serve(self.a)

    def reader(self, path: str = "/events", **headers: str) -> Any:
        """A client that reads a stream."""
        client = self.client()
        client.ask("GET", path, **headers)
        return client

    def heard(self, client: Any) -> list[Any]:
        """The first packet of each message that came over the stream."""
        return [data["packets"][0] for _, name, data in client.events() if name == "message"]

    def test_messages_and_events_come_as_they_happen(self) -> None:
        everything, messages = self.reader(), self.reader("/messages")
        self.send(self.b, "one", "two", after=1)
        self.stop(self.b)
        self.assertEqual((self.heard(everything), self.heard(messages)), (["one", "two"], ["one", "two"]))
        names = [name for _, name, _ in everything.events()]
        self.assertEqual(names[:2], ["message", "message"])
        self.assertIn("disconnect", names)
        self.assertIn("member", names)
        self.assertEqual({name for _, name, _ in messages.events()}, {"message"})
        (_, _, first), *_ = messages.events()
        self.assertEqual((first["sender"], first["sequence"]), (self.b.id.decode(), 1))
        self.assertEqual({data["label"] for _, _, data in messages.events()}, {"db"})
        (_, _, same), *_ = everything.events()
        self.assertEqual(same["label"], "db")

    def test_the_fields_of_a_message_are_those_of_the_file_for_programs(self) -> None:
        reader = self.reader()
        self.send(self.b, 1)
        ((_, _, message),) = reader.events()
        described = json.loads((DOCS / "openapi.json").read_text())["components"]["schemas"]["Message"]
        self.assertEqual([*message], [*described["properties"]])
        self.assertEqual([*message], described["required"])

    def test_a_message_of_the_node_itself_has_its_label(self) -> None:
        own = self.node(label="web1")
        self.serve(own)
        self.send(own, 1)
        (_, _, message), _ = self.reader(f"/messages?author={own.id.decode()}").events()
        self.assertEqual(message["label"], "web1")

    def test_receipts_come_as_they_fill(self) -> None:
        reader = self.reader()
        self.a.send("fire", receipt=True)
        self.network.advance(1)
        told = [data for _, name, data in reader.events() if name == "receipt"]
        self.assertEqual(
            told[-1] | {"epoch": 0},
            {
                "epoch": 0,
                "sequence": 1,
                "delivered": 1,
                "pending": 0,
                "missed": 0,
                "complete": True,
            },
        )

    def test_a_reader_that_comes_back_goes_on_where_it_was(self) -> None:
        reader = self.reader()
        self.send(self.b, 1, 2)
        last, _, _ = reader.events()[0]
        reader.lose()
        self.send(self.b, 3, after=KEPT_AFTER - 1)
        again = self.reader(last_event_id=last)
        self.assertEqual(self.heard(again), [2, 3])
        for other in ("other.1", "run.x", "run." + "9" * 5000, "run.²"):
            self.assertEqual(self.heard(self.reader(last_event_id=other)), [], other)

    def test_one_that_takes_nothing_is_cut_and_the_end_of_one_is_noticed(self) -> None:
        slow, quick = self.reader(), self.reader()
        slow.transport.producer.pauseProducing()
        self.network.advance(PATIENCE + BEAT)
        self.assertEqual((slow.transport.connected, quick.transport.connected), (False, True))
        self.assertIn("\n:\n\n", quick.received)
        self.assertEqual(self.ask("GET", "/status")[1]["dropped"]["slow_readers"], 1)
        self.assertEqual(self.recent.footprint()["control_readers"], 1)

    def test_an_event_that_is_larger_than_all_that_is_kept_comes_all_the_same(self) -> None:
        reader = self.reader()
        self.send(self.b, "x" * 5000)
        self.assertEqual([len(text) for text in self.heard(reader)], [5000])

    def test_one_that_comes_back_too_late_is_told_how_many_it_missed(self) -> None:
        reader = self.reader()
        self.send(self.b, 1)
        (last, _, _), *_ = reader.events()
        self.send(self.b, *range(2, 11))
        again = self.reader(last_event_id=last)
        self.assertEqual(again.events()[0][1:], ("missed", {"events": 5}))
        self.assertEqual(self.heard(again), [7, 8, 9, 10])

    def test_a_slow_reader_keeps_nothing_and_delays_nobody(self) -> None:
        slow, quick = self.reader(), self.reader()
        slow.transport.producer.pauseProducing()
        before = len(slow.received)
        self.send(self.b, *range(10))
        self.assertEqual((self.heard(quick), len(slow.received)), (list(range(10)), before))
        slow.transport.producer.resumeProducing()
        self.assertEqual(slow.events()[0][1:], ("missed", {"events": 6}))
        self.assertEqual(self.heard(slow), [6, 7, 8, 9])

    def test_messages_of_the_past_come_before_those_from_now_on(self) -> None:
        self.send(self.a, "own")
        self.send(self.b, "old", after=10)
        self.send(self.b, 1, 2, after=1)
        reader, everything = self.reader("/messages?since=5"), self.reader("/messages?since=all")
        self.assertEqual(self.heard(everything), ["old", 1, 2])
        self.assertEqual([data.get("label") for _, _, data in everything.events()], ["db"] * 3 + [None])
        self.send(self.b, 3)
        self.assertEqual(self.heard(reader), [1, 2, 3])
        ids = [(id, name) for id, name, _ in reader.events()]
        self.assertEqual(ids, [("", "message"), ("", "message"), ("", "now"), ("run.1", "message")])

    def test_a_reader_that_comes_back_gets_the_past_once(self) -> None:
        self.send(self.b, 1)
        reader = self.reader("/messages?since=all")
        self.send(self.b, 2, 3)
        last = reader.events()[2][0]
        reader.lose()
        again = self.reader("/messages?since=all", last_event_id=last)
        self.assertEqual(
            [(name, data.get("packets")) for _, name, data in again.events()], [("message", [3])]
        )
        for other in ("other.1", "run.x"):
            self.assertEqual(self.heard(self.reader("/messages?since=all", last_event_id=other)), [1, 2, 3])

    def test_the_newest_messages_of_one_author(self) -> None:
        self.send(self.a, "own")
        self.send(self.b, *range(5))
        for author, count, expected in (("db", 2, [3, 4]), (self.a.id.decode(), 9, ["own"])):
            reader = self.reader(f"/messages?author={author}&count={count}")
            self.assertEqual((self.heard(reader), reader.transport.connected), (expected, False))
            self.assertEqual(reader.events()[-1][1:], ("now", {}))

    def test_an_author_that_has_left_is_meant_too_and_one_that_is_forgotten_by_its_id(self) -> None:
        self.send(self.b, 1)
        self.stop(self.b, after=1)
        id = self.b.id.decode()[:9]
        for name in ("db", id):
            self.assertEqual(self.heard(self.reader(f"/messages?author={name}")), [1])
            self.assertEqual(self.reader(f"/messages?author={name}").events()[0][2]["label"], "db")
        self.a.forget(self.b.id)
        forgotten = self.reader(f"/messages?author={id}")
        self.assertEqual((self.heard(forgotten), forgotten.events()[0][2]["label"]), ([1], None))
        self.assertEqual(self.ask("GET", "/messages?author=db")[0], 404)

    def test_a_reader_of_the_past_that_takes_nothing_reads_nothing_and_is_cut(self) -> None:
        self.send(self.b, *range(3))
        reader = Client(self.factory.buildProtocol(None), Narrow())
        self.addCleanup(reader.lose)
        reader.ask("GET", "/messages?since=all")
        self.assertEqual(self.heard(reader), [])
        for number in range(3):
            reader.transport.producer.resumeProducing()
            self.assertEqual(self.heard(reader), [*range(number + 1)])
        self.network.advance(PATIENCE + BEAT)
        self.assertFalse(reader.transport.connected)

    def test_a_history_that_cannot_be_read_is_told(self) -> None:
        def fails(*_: object) -> None:
            raise StoreError("the disk is gone")

        self.patch(self.parts_of(self.a).driver.node, "read", fails)
        self.send(self.b, 1)
        reader = self.reader("/messages?since=all")
        told = [event[1:] for event in reader.events()]
        self.assertEqual(told, [("failure", {"error": "the disk is gone"}), ("now", {})])
        self.send(self.b, 2)
        self.assertEqual(self.heard(reader), [2])

    def test_arguments_that_are_wrong(self) -> None:
        for arguments, status in (
            ("since=-1", 400),
            ("since=nan", 400),
            ("since=1e999", 400),
            ("since=soon", 400),
            ("count=0", 400),
            ("count=5", 400),
            ("count=1000001", 400),
            ("author=nobody", 404),
            ("start=all", 400),
        ):
            self.assertEqual(self.ask("GET", f"/messages?{arguments}")[0], status, arguments)

    def test_what_is_held_is_told_by_runs(self) -> None:
        self.send(self.b, 1, after=5)
        self.send(self.b, 2, after=2)
        status, runs = self.ask("GET", "/history")
        run = {
            "id": self.b.id.decode(),
            "label": "db",
            "epoch": self.b.status().node.epoch,
            "first": 1,
            "last": 2,
        }
        self.assertEqual((status, runs[0] | run), (200, runs[0]))
        self.assertEqual((runs[0]["oldest_seconds"], runs[0]["newest_seconds"]), (7.0, 2.0))
        self.assertGreater(runs[0]["bytes"], 0)

    def test_few_bytes_are_kept(self) -> None:
        self.reader()
        self.send(self.b, "x" * 1400, "y" * 1400, "z" * 1400)
        self.assertEqual(self.recent.footprint()["control_events"], 1)
        self.assertLess(self.recent.footprint()["control_bytes"], 3000)

    def test_nothing_is_kept_without_a_reader(self) -> None:
        self.send(self.b, 1)
        self.assertEqual((self.a.listeners("message"), set(self.recent.footprint().values())), ([], {0}))
        reader = self.reader()
        self.send(self.b, 2)
        reader.lose()
        self.network.advance(KEPT_AFTER)
        self.assertEqual((self.a.listeners("message"), set(self.recent.footprint().values())), ([], {0}))

    def test_an_idle_stream_stays(self) -> None:
        reader = self.reader()
        self.network.advance(10 * IDLE_SECONDS)
        self.send(self.b, 1)
        self.assertEqual(self.heard(reader), [1])

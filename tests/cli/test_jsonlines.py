"""``--print`` without a process: the lines that it prints."""

from __future__ import annotations

import json
import math
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.support.terminals import Screen, TerminalCase
from twisted_mesh.cli.json_values import as_json, from_json
from twisted_mesh.cli.jsonlines import DIRECTS, JsonLines
from twisted_mesh.cli.lines import LINE_BYTES
from twisted_mesh.message import Gap
from twisted_mesh.service import MeshService


def events(screen: Screen) -> list[Any]:
    """The printed lines, read as strict JSON."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in screen.lines]


class TypedLines(JsonLines):
    """As ``--typed`` makes it."""

    typed_lines = True


def _listed(value: Any) -> Any:
    """*value* with lists in place of tuples."""
    return list(value) if isinstance(value, tuple) else value


class AsJsonTests(SynchronousTestCase):
    def test_what_json_has_a_word_for_is_that(self) -> None:
        value = {"a": [1, 2.5, -(2**63), 2**64 - 1, True, False, None, "Zoë"], "": {}}
        self.assertEqual(as_json(value), value)

    def test_bytes_floats_and_dicts_that_json_has_no_word_for(self) -> None:
        for value, told in (
            (b"\x00\xff", {"$b": "AP8="}),
            (math.inf, {"$f": "Infinity"}),
            (-math.inf, {"$f": "-Infinity"}),
            (math.nan, {"$f": "NaN"}),
            ({1: "a", "1": "b"}, {"$d": [[1, "a"], ["1", "b"]]}),
            ({b"k": b"v"}, {"$d": [[{"$b": "aw=="}, {"$b": "dg=="}]]}),
            ({None: 1, True: 2}, {"$d": [[None, 1], [True, 2]]}),
            ({"$b": "no bytes"}, {"$d": [["$b", "no bytes"]]}),
            ((1, [b""]), [1, [{"$b": ""}]]),
        ):
            self.assertEqual(as_json(value), told)
            self.assertEqual(
                repr(from_json(json.loads(json.dumps(told, allow_nan=False)))), repr(_listed(value))
            )

    def test_objects_with_a_dollar_that_stand_for_no_value_are_refused(self) -> None:
        for value in (
            {"$x": 1},
            {"$b": 1},
            {"$b": "no base64"},
            {"$b": "AP8=", "more": 1},
            {"$f": "infinite"},
            {"$f": 1.0},
            {"$d": 1},
            {"$d": [[1]]},
            {"$d": [[[1], 2]]},
            {"$d": [[{"a": 1}, 2]]},
            [{"deep": {"$b": None}}],
        ):
            self.assertRaises(ValueError, from_json, value)


class JsonLinesTests(TerminalCase):
    def test_listening_is_first_and_names_every_port(self) -> None:
        screen = self.terminal(JsonLines, listen=[self.network.listen("10.0.0.1", port) for port in (1, 2)])
        node_id = self.own_node.id.decode()
        self.assertEqual(
            events(screen), [{"event": "listening", "port": 1, "ports": [1, 2], "id": node_id}]
        )

    def test_listening_of_a_node_that_only_dials_has_no_port(self) -> None:
        screen = self.terminal(JsonLines, listens=False)
        self.assertEqual((events(screen)[0]["port"], events(screen)[0]["ports"]), (None, []))

    def test_a_message_is_printed_with_all_it_has(self) -> None:
        screen = self.terminal(JsonLines)
        other = self.node()
        self.link((other, self.own_node))
        other.send("text", b"\xff", math.nan, {1: 2}, type=0x30)
        other.send("a\nb \x9b \u2028 \x1b \u202e \U000e0041 ☃")
        other.routing_table[self.own_node.id].whisper("psst")
        self.network.pump()
        (line,) = [line for line in screen.lines if "☃" in line]
        self.assertEqual(len(line.splitlines()), 1)
        self.assertEqual([char for char in line if not char.isprintable()], [])
        messages = [event for event in events(screen) if event["event"] == "message"]
        whisper, first, second = sorted(messages, key=lambda event: event["sequence"] or 0)
        received = {message.sequence: message for message in self.received(self.own_node)}
        self.assertEqual(
            first,
            {
                "event": "message",
                "sender": other.id.decode(),
                "epoch": received[1].source.run[1],
                "sequence": 1,
                "time": received[1].time,
                "type": 0x30,
                "packets": ["text", {"$b": "/w=="}, {"$f": "NaN"}, {"$d": [[1, 2]]}],
                "label": None,
            },
        )
        self.assertEqual(second["packets"], ["a\nb \x9b \u2028 \x1b \u202e \U000e0041 ☃"])
        self.assertEqual((whisper["type"], whisper["sequence"], whisper["packets"]), (2, None, ["psst"]))

    def test_events_are_printed_with_what_they_tell(self) -> None:
        screen = self.terminal(JsonLines)
        other, node = self.linked(self.node(label="a\nb", tags={"floor": "3"}), self.own_node)
        self.network.cut("10.0.0.1", "10.0.0.2")
        self.network.pump()
        stranger = self.node(subnet="elsewhere")
        self.failureResultOf(self.pumped(stranger.connect("10.0.0.1", 4444)))
        node.emit("gap", Gap(other.id, 3, 5, 9, "no neighbour sent them in time"))
        node.emit("failure", Failure(ValueError("a listener's fault")))
        self.network.pump()
        printed = events(screen)
        self.assertEqual(printed[1], {"event": "connect", "peers": [other.id.decode()]})
        member = other.id.decode(), self.status_of(other).stream[1]
        self.assertEqual(
            printed[2],
            {
                "event": "member",
                "id": member[0],
                "label": "a\nb",
                "tags": {"floor": "3"},
                "address": ["10.0.0.2", 4444],
                "role": "member",
                "state": "up",
                "since": 0.0,
                "epoch": member[1],
            },
        )
        self.assertEqual(printed[3], {"event": "disconnect"})
        suspect = printed[4]
        self.assertEqual(
            (suspect["event"], suspect["id"], suspect["state"]), ("member", member[0], "suspect")
        )
        refused = next(event for event in printed if event["event"] == "refused")
        self.assertEqual((refused["reason"], refused["outgoing"]), ("subnet", False))
        self.assertEqual(refused["address"][0], "10.0.0.3")
        self.assertEqual(refused["detail"], "the peer closed: another subnet, or trust by other means")
        gap = {"sender": other.id.decode(), "epoch": 3, "first": 5, "last": 9, "ranges": [[5, 9]]}
        self.assertEqual(printed[-2], {"event": "gap", **gap, "reason": "no neighbour sent them in time"})
        self.assertEqual(printed[-1], {"event": "failure", "error": "a listener's fault"})

    def pumped(self, deferred: Deferred[Any]) -> Deferred[Any]:
        """*deferred* after everything that can happen."""
        self.network.pump()
        return deferred

    def test_events_nobody_reads_are_counted_and_told(self) -> None:
        screen = self.terminal(JsonLines)
        node = self.own_node
        screen.blocked = True
        for number in range(4):
            node.emit("failure", Failure(ValueError(str(number))))
        screen.read_on()
        node.emit("failure", Failure(ValueError("later")))
        told = [(event["event"], event.get("error", event.get("events"))) for event in events(screen)[1:]]
        self.assertEqual(told, [("failure", "0"), ("skipped", 3), ("failure", "later")])

    def test_standard_input_is_not_read(self) -> None:
        screen = self.terminal(JsonLines)
        screen.at.dataReceived(b"whatever\nit is\n")
        screen.at.readConnectionLost()
        self.network.advance(30)
        self.assertFalse(self.stopping)
        self.assertEqual(self.status_of(self.own_node).sent, 0)

    def test_with_receipts_lines_are_sent_and_who_has_them_is_printed(self) -> None:
        screen = self.terminal(JsonLines, receipts=True)
        other, node = self.linked(self.node(), self.own_node)
        self.network.advance(1)
        screen.at.dataReceived(b"fire\nagain")
        screen.at.readConnectionLost()
        self.network.advance(1)
        self.assertEqual(self.got(other), ["fire", "again"])
        told = [event for event in events(screen) if event["event"] == "receipt"]
        _, epoch = self.status_of(node).stream
        first = {"event": "receipt", "line": 1, "epoch": epoch, "sequence": 1, "missed": 0, "closed": None}
        self.assertEqual(
            [event for event in told if event["line"] == 1],
            [
                {**first, "delivered": 0, "pending": 1, "complete": False},
                {**first, "delivered": 1, "pending": 0, "complete": True},
            ],
        )
        self.assertEqual(told[-1]["sequence"], 2)
        self.network.advance(60)
        self.assertFalse(self.stopping)  # the end of input ends nothing

    def test_before_it_has_joined_nobody_is_known(self) -> None:
        screen = self.terminal(JsonLines, receipts=True)
        screen.at.dataReceived(b"early\n")
        self.network.advance(1)
        told = events(screen)[-1]
        self.assertEqual((told["event"], told["pending"], told["complete"]), ("receipt", 0, False))

    def test_a_message_has_its_authors_label(self) -> None:
        screen = self.terminal(JsonLines)
        other, _ = self.linked(self.node(label="web\n1"), self.own_node)
        self.send(other, "one", after=1)
        labels = [event["label"] for event in events(screen) if event["event"] == "message"]
        self.assertEqual(labels, ["web\n1"])


class TypedTests(TerminalCase):
    """``--print --typed``: each line of standard input is a message as JSON."""

    def typed(self, *others: MeshService, receipts: bool = False) -> Screen:
        screen = self.terminal(TypedLines, receipts=receipts)
        for other in others:
            self.link((other, self.own_node), after=1)
        return screen

    def of_kind(self, screen: Screen, *kinds: str) -> list[Any]:
        return [event for event in events(screen) if event["event"] in kinds]

    def test_a_line_is_a_message_with_types_for_all_or_for_one(self) -> None:
        web1, web2 = self.node(label="web1"), self.node(label="web2")
        screen = self.typed(web1, web2)
        lines = (
            {"packets": ["text", {"$b": "/w=="}, {"$d": [[1, 2.5]]}, None], "type": 48},
            {"packets": ["plain"]},
            {"packets": ["psst"], "to": "web1"},
            {"packets": ["typed", 1], "type": 50, "to": web2.id.decode()[:8]},
        )
        self.type_in(screen, b"".join(json.dumps(line).encode() + b"\n" for line in lines), after=2)
        all_of_it = [[48, "text", b"\xff", {1: 2.5}, None], [0, "plain"]]
        got = [[message.packets for message in self.received(node)] for node in (web1, web2)]
        # There is no order between messages for all and messages for one.
        self.assertEqual(
            [sorted(each, key=str) for each in got],
            [sorted([*all_of_it, [2, "psst"]], key=str), sorted([*all_of_it, [50, "typed", 1]], key=str)],
        )
        acknowledged = self.of_kind(screen, "acknowledged", "unsent")
        to = [(event["line"], event["to"]) for event in acknowledged]
        self.assertEqual(to, [(3, web1.id.decode()), (4, web2.id.decode())])

    def test_a_line_that_is_no_message_is_told_with_its_number_and_the_next_is_sent(self) -> None:
        other = self.node()
        screen = self.typed(other)
        wrong = (
            b"text",
            b"[1]",
            b'{"packets": 1}',
            b'{"packets": [1], "typ": 48}',
            b'{"packets": [{"$b": "no base64"}]}',
            b'{"packets": [1], "type": 5}',
            b'{"packets": [1], "to": "nobody"}',
            b'{"packets": [99999999999999999999999]}',
            b'{"packets": ["' + b"x" * (2**20 - 80) + b'"]}',
            b'{"packets": ["\xff"]}',
            b"[" * 100_000,
            b"x" * (LINE_BYTES + 1),
        )
        self.type_in(screen, b"\n".join(wrong) + b'\n{"packets": ["right"]}\n', after=1)
        unsent = self.of_kind(screen, "unsent")
        self.assertEqual([event["line"] for event in unsent], list(range(1, len(wrong) + 1)))
        example = 'a line is {"packets": […]}, with type and to where they are wanted: JSON is malformed: '
        self.assertEqual(unsent[0]["error"][: len(example)], example)
        self.assertEqual(unsent[6]["error"][:28], "no member is named 'nobody':")
        self.assertEqual(unsent[-1]["error"], f"it has over {LINE_BYTES} bytes")
        self.assertEqual(self.got(other), ["right"])

    def test_one_that_does_not_acknowledge_is_told(self) -> None:
        other = self.node(label="web1")
        screen = self.typed(other)
        self.network.part([self.host(other)], [self.host(self.own_node)])
        self.type_in(screen, b'{"packets": ["psst"], "to": "web1"}\n', after=60)
        (unsent,) = self.of_kind(screen, "unsent", "acknowledged")
        self.assertEqual((unsent["line"], unsent["error"][:5]), (1, other.id.decode()[:5]))

    def test_input_is_read_no_faster_than_direct_messages_are_acknowledged(self) -> None:
        other = self.node(label="web1")
        screen = self.typed(other)
        self.network.part([self.host(other)], [self.host(self.own_node)])
        self.type_in(screen, b'{"packets": ["psst"], "to": "web1"}\n' * (DIRECTS + 5))
        self.assertFalse(screen.reads)
        self.assertEqual(self.own_node.footprint()["unacknowledged"], DIRECTS)
        self.network.advance(60)
        self.assertTrue(screen.reads)
        self.network.advance(60)
        self.assertEqual(len(self.of_kind(screen, "unsent")), DIRECTS + 5)

    def test_with_receipts_who_has_it_is_told_as_well(self) -> None:
        screen = self.typed(self.node(), receipts=True)
        self.type_in(screen, b'{"packets": [1]}\n{"packets": "wrong"}\n{"packets": [2]}\n', after=1)
        told = {event["line"]: event["complete"] for event in self.of_kind(screen, "receipt")}
        self.assertEqual(told, {1: True, 3: True})


class ReplayedTests(TerminalCase):
    """``--print --replay``: the event ``replayed``."""

    def replayed(self, messages: int, **options: Any) -> tuple[Screen, MeshService]:
        """A terminal that asks for messages of the time before, of a node that has sent *messages*."""
        other = self.node()
        self.send(other, *map(str, range(messages)))
        screen = self.terminal(JsonLines, **options)
        screen.blocked = True
        self.link((self.own_node, other))
        return screen, other

    def kinds(self, screen: Screen) -> list[str]:
        return [event["event"] for event in events(screen) if event["event"] in ("message", "replayed")]

    def test_it_comes_once_behind_the_messages_of_the_time_before(self) -> None:
        screen, other = self.replayed(5, replay="all")
        screen.read_on()
        self.network.advance(10)
        self.send(other, "new", after=10)
        self.assertEqual(self.kinds(screen), [*["message"] * 5, "replayed", "message"])
        (event,) = [event for event in events(screen) if event["event"] == "replayed"]
        self.assertEqual(event["messages"], 5)

    def test_it_comes_if_there_were_none_and_not_if_none_were_asked_for(self) -> None:
        for replay, kinds in (("all", ["replayed"]), (None, [])):
            screen, _ = self.replayed(0, replay=replay)
            screen.read_on()
            self.network.advance(10)
            self.assertEqual(self.kinds(screen), kinds)

    def test_it_waits_for_a_reader_that_is_slow(self) -> None:
        screen, _ = self.replayed(300, replay="all", limits={"queue_limit": 100})
        self.network.advance(10)
        self.assertEqual(self.kinds(screen).count("replayed"), 0)
        screen.read_on()
        self.network.advance(10)
        self.assertEqual(self.kinds(screen), [*["message"] * 300, "replayed"])

    def test_it_comes_no_more_when_the_node_stops_first(self) -> None:
        screen = self.terminal(JsonLines, replay="all")
        self.stop()
        self.network.advance(1)
        self.assertEqual(self.kinds(screen), [])

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
from twisted_mesh.cli.jsonlines import JsonLines
from twisted_mesh.message import Gap


def events(screen: Screen) -> list[Any]:
    """The printed lines, read as strict JSON."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in screen.lines]


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
        self.assertEqual(refused["detail"], "the peer closed: another subnet")
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

"""``mesh authority remove`` over the paths of a node: the command of docs/trust.rst, and what it asks."""

from __future__ import annotations

import contextlib
import io
import json
import re
from typing import Any

from tests.admin.http_case import HttpCase
from tests.cli.test_trust_files import PAGE
from tests.service.test_authority import AuthorityCase
from twisted_mesh.cli.client import Client, Failed
from twisted_mesh.cli.main import main
from twisted_mesh.wire.authority import Cut

COMMAND, PRINTED = re.findall(
    r"^    \$ (mesh authority remove mesh.authority db)\n    (.+)$", PAGE, flags=re.M
)[0]
QUOTAS = re.findall(r"^    \$ mesh (authority quota .+)\n    (policy .+)$", PAGE, flags=re.M)
(GENERATION,) = re.findall(r"``(--generation 2)``", PAGE)
(END,) = re.findall(r"^    (mesh authority remove mesh.authority --below 2)$", PAGE, flags=re.M)


class RemovingCase(HttpCase, AuthorityCase):
    """A node that is linked with a member with the label db."""

    def setUp(self) -> None:
        super().setUp()
        self.one, self.db = self.linked(self.granted(), self.granted(label="db"), after=6)
        self.serve(self.one)


class TestPaths(RemovingCase):
    def test_the_cut_of_a_member_is_how_far_it_has_come_here(self) -> None:
        self.send(self.db, "first", "second", after=1)
        code, told = self.ask("POST", "/cut", json.dumps({"member": "db"}))
        key, [(epoch, number, hash)] = self.one.runs_of(self.db.id)
        self.assertEqual(number, 2)
        self.assertEqual(len(hash), 32)
        expected = {
            "id": self.db.id.decode(),
            "key": key.hex(),
            "cuts": [[epoch, number, hash.hex()]],
            "policy": "",
        }
        self.assertEqual((code, told), (200, expected))

    def test_a_member_that_is_gone_is_named_by_its_id(self) -> None:
        self.one, self.db = self.linked(
            self.granted(limits={"member_memory": 60.0}), self.granted(label="db"), after=6
        )
        self.serve(self.one)
        self.send(self.db, "first", after=1)
        id = self.db.id.decode()
        self.stop(self.db, after=100)
        self.assertEqual(dict(self.one.members), {})
        self.assertEqual(self.ask("POST", "/cut", json.dumps({"member": "db"}))[0], 404)
        code, told = self.ask("POST", "/cut", json.dumps({"member": id}))
        self.assertEqual((code, told["id"], told["cuts"][0][1]), (200, id, 1))
        nobody = self.db.id[::-1].decode()
        self.assertEqual(self.ask("POST", "/cut", json.dumps({"member": nobody}))[0], 504)

    def test_a_policy_is_taken_if_the_authority_has_signed_it(self) -> None:
        nothing = json.dumps({"policy": ""})
        self.assertEqual(self.ask("POST", "/policy", nothing), (200, {"policy": ""}))
        key, ends = self.one.runs_of(self.db.id)
        packed = self.authority.remove(key, [Cut(*end) for end in ends]).hex()
        for wrong in ("x", "00", "00" * 100, ("1" if packed[0] != "1" else "2") + packed[1:]):
            code, told = self.ask("POST", "/policy", json.dumps({"policy": wrong}))
            self.assertEqual(code, 400)
            self.assertIn("no policy of this mesh", told["error"])
        for _ in range(2):
            self.assertEqual(
                self.ask("POST", "/policy", json.dumps({"policy": packed})), (200, {"policy": packed})
            )
        self.assertEqual(self.ask("POST", "/policy", nothing), (200, {"policy": packed}))
        self.network.pump()
        self.assertEqual(dict(self.one.routing_table), {})


class TestCommand(RemovingCase):
    def setUp(self) -> None:
        super().setUp()

        def ask(client: Client, method: str, path: str, body: str | None, timeout: float) -> Any:
            code, told = self.ask(method, path, body or "")
            if code >= 400:
                raise Failed(told["error"], code)
            return told

        self.patch(Client, "_ask", ask)  # the socket alone: the node answers in memory

    def run_it(self, *words: str) -> tuple[int, str, str]:
        """Exit status, output and errors of ``mesh authority`` with *words*."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(["authority", *words])
        return status, out.getvalue(), err.getvalue()

    def test_the_command_of_the_page_removes_a_member(self) -> None:
        self.send(self.db, "before", after=1)
        key = str(self.key).removesuffix(".pub")
        words = COMMAND.replace("mesh.authority", key).split()[2:]
        told = re.sub("4dV17[^ ]+", self.db.id.decode(), PRINTED)
        self.assertEqual(self.run_it(*words, "--node", "./x"), (0, f"{told}\n", ""))
        self.network.advance(1)
        self.assertEqual((self.got(self.one), dict(self.one.routing_table)), (["before"], {}))
        _, shown, _ = self.run_it("show", key)
        self.assertEqual(
            shown.splitlines()[-2:],
            ["policy 1: grants from generation 0 on are good", f"removed {self.db.id.decode()}"],
        )

    def quota(self, *words: str) -> tuple[int, str, str]:
        """As :meth:`run_it`, of ``quota`` and the authority."""
        return self.run_it("quota", str(self.key).removesuffix(".pub"), *words, "--node", "./x")

    def test_the_commands_of_the_page_give_members_quotas_and_end_them(self) -> None:
        key, id = str(self.key).removesuffix(".pub"), self.db.id.decode()
        self.assertEqual(len(QUOTAS), 3)
        shown = []
        for number, (command, printed) in enumerate(QUOTAS, 1):
            words = command.replace("mesh.authority", key).split()[1:]
            told = re.sub("4dV17[^ :]+", id, printed)
            self.assertEqual(self.run_it(*words, "--node", "./x"), (0, f"{told}\n", ""))
            self.assertTrue(told.startswith(f"policy {number}: "))
            shown.append([line for line in self.run_it("show", key)[1].splitlines() if "quota" in line])
        first = f"quota of {id}: 10 batches and 65,536 bytes a second"
        others = "quota of all others: 50 batches a second"
        self.assertEqual(shown, [[first], [first, others], [others]])
        self.network.advance(1)
        self.assertEqual(self.db.authority_policy, self.one.authority_policy)
        self.assertEqual(self.quota("db", "--batches", "0")[0], 0)
        self.assertIn(f"quota of {id}: as each node allows", self.run_it("show", key)[1])

    def test_old_grants_are_ended(self) -> None:
        key = str(self.key).removesuffix(".pub")
        for node in (self.one, self.db):
            path = self.mktemp()
            self.run_it("grant", key, node.id.decode(), path, *GENERATION.split())
            with open(path) as grant:
                self.grants[node].write_text(grant.read())
            node.reload_trust()
        self.network.advance(1)
        told = "policy 1: grants below generation 2 are over; the node hands it on to all others\n"
        words = END.replace("mesh.authority", key).split()[2:]
        self.assertEqual(self.run_it(*words, "--node", "./x"), (0, told, ""))
        self.network.advance(1)
        self.send(self.one, "goes on", after=60)
        self.assertEqual(self.got(self.db), ["goes on"])
        self.assertIn(self.db.id, self.one.members)

    def test_what_cannot_be_done_is_said(self) -> None:
        key = str(self.key).removesuffix(".pub")
        status, out, error = self.run_it("remove", key, "web9", "--node", "./x")
        self.assertEqual((status, out), (1, ""))
        self.assertIn("web9", error)
        other, _ = self.new_authority()
        status, _, error = self.run_it("remove", str(other).removesuffix(".pub"), "db", "--node", "./x")
        self.assertEqual(status, 1)
        self.assertIn("no policy of this mesh", error)
        self.assertIn(self.db.id, self.one.routing_table)
        for words, told in (
            (("db",), "give --batches, --bytes or both, or else --none"),
            (("--all", "--bytes", "5", "--none"), "give --batches, --bytes or both, or else --none"),
            (("db", "--bytes", "-1"), "a quota is a number from 0 to"),
            (("db", "--none"), "there is no quota to end"),
            (("web9", "--bytes", "1"), "web9"),
        ):
            status, out, error = self.quota(*words)
            self.assertEqual((status, out, error.count("\n")), (1, "", 1))
            self.assertIn(told, error)
        for words in ((), ("db", "--all", "--bytes", "1")):
            self.assertEqual(self.assertRaises(SystemExit, self.quota, *words).code, 2)
        self.assertEqual(self.one.authority_policy, b"")

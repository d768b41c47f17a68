"""The token that clients show over TCP, and which requests are answered there."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.admin.http_case import HttpCase
from twisted_mesh.admin.guard import Guard, Token, is_own_name, load_or_create
from twisted_mesh.errors import TrustError
from twisted_mesh.identity import Identity
from twisted_mesh.trust.shared_secret import create as create_secret

TEXT = "the-token-of-this-test-0123456789"
AUTHORIZED = f"Bearer {TEXT}"


class TokenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.path = self.folder / "token"

    def test_one_is_made_that_only_the_own_user_can_read_and_is_kept(self) -> None:
        made = load_or_create(self.path)
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.assertGreaterEqual(len(made.reveal()), 43)
        self.assertEqual(load_or_create(os.fspath(self.path)).reveal(), made.reveal())
        self.assertNotEqual(load_or_create(self.folder / "other").reveal(), made.reveal())
        self.assertNotIn(made.reveal(), repr(made) + repr(vars(Guard(made))))

    def refused(self, content: bytes, mode: int = 0o600) -> str:
        """Why a file with this content is refused."""
        self.path.write_bytes(content)
        self.path.chmod(mode)
        error = str(self.assertRaises(TrustError, load_or_create, self.path))
        self.assertNotIn(TEXT, error)
        return error

    def test_a_file_that_cannot_be_used_is_refused_and_named(self) -> None:
        line = b"token " + TEXT.encode()
        self.assertEqual(
            self.refused(line, 0o640),
            f"the token {self.path} can be read by others: chmod 600 {self.path}",
        )
        for content in (b"", b"short", line + b"\n" + line, line + b" " + line, line + "é".encode()):
            self.assertIn("is not one line of at least 32 characters", self.refused(content))
        key, secret = self.folder / "key", self.folder / "secret"
        Identity.create(key)
        create_secret(secret)
        for other in (key.read_bytes(), secret.read_bytes(), TEXT.encode(), b"token " + b"x" * 31):
            error = self.refused(other)
            self.assertIn("behind the word token: name another file", error)
            self.assertNotIn("delete", error)
        lost = self.assertRaises(TrustError, load_or_create, self.folder / "none" / "token")
        self.assertIn("No such file", str(lost))
        self.path.unlink()
        self.path.symlink_to(self.folder / "elsewhere")
        self.assertIn("No such file", str(self.assertRaises(TrustError, load_or_create, self.path)))


class GuardTests(HttpCase):
    def setUp(self) -> None:
        super().setUp()
        self.node_ = self.node()
        self.serve(self.node_, Guard(Token(Path("token"), TEXT)))

    def status(self, method: str = "GET", path: str = "/healthz", body: str = "", **headers: str) -> int:
        """The status of the answer to a request of an authorized client, but for *headers*."""
        client = self.client()
        wanted = {"Host": "127.0.0.1:8420", "Authorization": AUTHORIZED} | headers
        client.ask(method, path, body, **{name: value for name, value in wanted.items() if value})
        status, told = client.answer()
        self.assertEqual("error" in told, status != 200)
        self.assertFalse(client.transport.connected)
        client.lose()
        return status

    def test_the_token_is_needed_for_every_path(self) -> None:
        self.assertEqual(self.status(), 200)
        self.assertEqual(self.status(Authorization=f"bearer  {TEXT}"), 200)
        self.assertEqual(self.status(Authorization=f"Bearer token {TEXT}"), 200)  # the file as it is
        for shown in (
            "",
            TEXT,
            "Bearer",
            f"Basic {TEXT}",
            f"Bearer {TEXT}x",
            f"Bearer {TEXT[:-1]}",
            "Bearer é",
        ):
            self.assertEqual(self.status(Authorization=shown), 401, shown)
        for path in (
            "/none",
            "/metrics",
            "/events",
            f"/status?token={TEXT}",
            "http://127.0.0.1/status",
        ):
            self.assertEqual(self.status(path=path, Authorization=""), 401, path)
        self.assertEqual(self.status("POST", "/send", '{"packets": [1]}', Authorization=""), 401)
        self.assertEqual(self.node_.status().node.messages_sent, 0)

    def test_the_answer_without_a_token_says_how_to_show_it_and_allows_no_other_site(self) -> None:
        client = self.client()
        client.ask("OPTIONS", "/send", Host="localhost:8420", Origin="http://evil.example")
        self.assertEqual(client.answer()[0], 403)
        client = self.client()
        client.ask("GET", "/status", Host="localhost:8420")
        self.assertIn("\r\nWWW-Authenticate: Bearer\r\n", client.received)
        for header in ("X-Content-Type-Options: nosniff", "Cache-Control: no-store"):
            self.assertIn(f"\r\n{header}\r\n", client.received)
        self.assertNotIn("Access-Control", client.received)

    def test_a_name_that_is_made_to_lead_here_is_refused(self) -> None:
        for host in ("localhost", "LOCALHOST:1", "127.0.0.1", "10.0.0.7:8420", "[::1]:8420"):
            self.assertEqual(self.status(Host=host), 200, host)
        for host in (
            "evil.example",
            "evil.example:8420",
            "127.0.0.1.evil.example",
            "[::1",
            "1:2:3",
            "a@b",
            "",
            "x",
        ):
            self.assertEqual(self.status(Host=host), 403, host)
        self.assertFalse(is_own_name("localhost\n"))

    def test_a_second_host_is_refused(self) -> None:
        client = self.client()
        client.protocol.dataReceived(
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n"
            b"Authorization: " + AUTHORIZED.encode() + b"\r\n\r\n"
        )
        self.assertEqual(client.answer()[0], 403)

    def test_a_page_of_another_site_is_refused(self) -> None:
        self.assertEqual(self.status(Origin="http://127.0.0.1:8420"), 200)
        self.assertEqual(self.status(Host="LocalHost:9", Origin="http://localhost:9"), 200)
        for origin in ("http://evil.example", "http://127.0.0.1:8421", "https://127.0.0.1:8420", "null"):
            self.assertEqual(self.status(Origin=origin), 403, origin)

    def test_the_files_of_the_page_are_only_read_without_the_token(self) -> None:
        for path in ("/", "/page.js"):
            for method in ("POST", "PUT", "OPTIONS", "GETS"):
                self.assertEqual(self.status(method, path, Authorization=""), 405, method)
            self.assertEqual(self.status("GET", path, "x", Authorization=""), 413)
            client = self.client()
            head = f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            client.protocol.dataReceived(head.encode())
            self.assertEqual(client.answer()[0], 413)
            client = self.client()
            client.ask("GET", path, Host="localhost")
            self.assertTrue(client.received.startswith("HTTP/1.1 200 "))

    def test_no_body_is_kept_of_a_request_without_the_token(self) -> None:
        client = self.client()
        head = b"POST /send HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        client.protocol.dataReceived(head + b"Content-Length: 2000000\r\n\r\n" + b"x" * 1_000_000)
        self.assertEqual(client.answer()[0], 401)
        self.assertIsNone(client.protocol.requests[0].content)

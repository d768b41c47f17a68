"""A CA that openssl makes, as docs/trust.rst says: two nodes in, others out, over real connections."""

from __future__ import annotations

import re
import subprocess

from tests.support.length import only_at_length
from tests.support.processes import ROOT, Child, ProcessCase
from twisted_mesh.identity import Identity

PAGE = (ROOT / "docs" / "trust.rst").read_text()
REQUEST, CA, SIGN = re.findall(r"^    \$ (openssl .+)$", PAGE, flags=re.M)


class CertificateTests(ProcessCase):
    def run_all(self, command: str) -> None:
        subprocess.run(
            ["sh", "-c", f"umask 022; {command}"], cwd=self.directory, check=True, capture_output=True
        )

    def certify(self, name: str, ca: str = "ca") -> None:
        """Make a key with that *name*, and have a CA certify it for ``localhost``."""
        Identity.create(self.directory / f"{name}.key")
        for command in (REQUEST.replace("web1.example", "localhost"), SIGN.replace("ca.", f"{ca}.")):
            self.run_all(command.replace("node.", f"{name}."))

    def node(self, name: str, *arguments: str, to: Child | None = None, ca: str = "ca") -> Child:
        """Start a node, which dials another by its host name."""
        where = [] if to is None else [f"--peer=localhost:{to.ports[0]}"]
        own = (f"--identity={name}.key", f"--certificate={name}.pem", f"--ca={ca}.pem") if name else ()
        return self.mesh("--stdio", "--no-control", *own, *where, *arguments)

    async def test_two_nodes_with_certificates_are_in_and_others_read_why_they_are_not(self) -> None:
        only_at_length()
        for ca in ("ca", "other"):
            self.run_all(CA.replace("ca.", f"{ca}."))
        for name, ca in (("inside", "ca"), ("second", "ca"), ("outside", "other")):
            self.certify(name, ca)
        self.run_all("cat ca.pem other.pem > both.pem")
        inside = self.node("inside")
        await self.until_listening(inside)
        second = self.node("second", to=inside)
        others = [self.node("outside", "--debug-level=2", to=inside, ca=ca) for ca in ("other", "both")] + [
            self.node("", "--debug-level=2", to=inside)
        ]
        await self.until(lambda: inside.links and second.links)
        second.type("for those inside\n")
        await self.until(lambda: inside.lines == ["for those inside"])
        told = (
            "the certificate that the peer shows is not of the CA of this mesh",
            "refuses the certificate of this node",
            "wants a certificate of its mesh's CA, and this node has none",
        )
        for node, words in zip(others, told, strict=True):
            await self.until(lambda node=node, words=words: words in node.log)
            self.assertIn(f"``{words}``", " ".join(PAGE.split()))
            self.assertEqual((node.links, node.lines, node.status), (0, [], None))
        self.run_all(SIGN.replace("node.", "inside."))  # once more, for the same request
        inside.signal("HUP")
        await self.until(lambda: "was read again, and has changed" in inside.log)
        second.type("still here\n")
        await self.until(lambda: inside.lines == ["for those inside", "still here"])
        self.assertEqual(second.log.count("linked with"), 1)

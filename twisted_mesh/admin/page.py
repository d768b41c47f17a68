"""The page of a node: files that a browser reads without the token, as they tell nothing of the node.

Contract: the page loads nothing but these files, and asks nothing but the node's own paths.  Its policy
lets it run no other script, and take no markup out of text (``require-trusted-types-for``).
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from twisted.web.resource import Resource
from twisted.web.server import Request

from twisted_mesh.admin.site import not_allowed

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
#: The path of each file, its name in the package, and its type.
FILES: Final = {
    b"": ("index.html", "text/html; charset=utf-8"),
    b"page.js": ("page.js", "text/javascript; charset=utf-8"),
    b"page.css": ("page.css", "text/css; charset=utf-8"),
    b"icon.svg": ("icon.svg", "image/svg+xml"),
}


class File(Resource):
    """A file of the page."""

    isLeaf = True
    allowedMethods = (b"GET",)

    def __init__(self, name: str, content_type: str) -> None:
        super().__init__()
        self._content = files("twisted_mesh.admin").joinpath("assets", name).read_bytes()
        self._type = content_type.encode()

    def render(self, request: Request) -> bytes:
        """The file."""
        if request.method not in (b"GET", b"HEAD"):
            return not_allowed(request, b"GET")
        request.setHeader(b"content-type", self._type)
        request.setHeader(b"content-security-policy", POLICY.encode())
        return self._content

"""Sphinx: the pages of this folder and the docstrings of the package, as HTML.

``python -m sphinx -W -n docs docs/_build`` builds them. Nothing is fetched from the sites of other
projects, so that it does the same without a network.
"""

import re

from docutils import nodes
from sphinx.addnodes import pending_xref
from twisted.internet import interfaces
from zope.interface.interface import InterfaceClass

project = "twisted_mesh"
author = "The twisted_mesh developers"
extensions = ["sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme_options = {"description": "An alert and messaging mesh for Twisted", "page_width": "1100px"}
html_show_copyright = False
html_copy_source = False

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True  # as they stand in the source
for interface in vars(interfaces).values():
    if isinstance(interface, InterfaceClass):
        interface.__qualname__ = interface.__name__  # else it prints badly where it stands for a type
python_maximum_signature_line_length = 100
nitpick_ignore_regex = [
    ("py:.*", r"(?!twisted_mesh\.)\w+\..+"),  # what others describe
    ("py:class", r"Packet|Deferred"),  # overloads are shown as the source spells them
    ("py:class", r"twisted_mesh\.(core|admin)\..+"),  # the types of attributes, which are no public names
]


def link_pages(app, document):
    """Make a link of each literal that names a page, like ``docs/limits.rst``: they read well as text."""
    for literal in list(document.findall(nodes.literal)):
        if page := re.fullmatch(r"docs/(\w+)\.rst", literal.astext()):
            link = pending_xref(
                "",
                nodes.inline("", literal.astext()),
                refdomain="std",
                reftype="doc",
                reftarget=f"/{page[1]}",
                refexplicit=False,
                refwarn=True,
                refdoc=app.env.current_document.docname,
            )
            link.source, link.line = literal.source, literal.line
            literal.replace_self(link)


def find_pictures(app, path, docname, content):
    """Find a picture of the README from this folder, into which the README is included."""
    content[0] = content[0].replace(".. image:: docs/", ".. image:: ")


def setup(app):
    """What Sphinx calls."""
    app.connect("include-read", find_pictures)
    app.connect("doctree-read", link_pages)

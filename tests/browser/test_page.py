"""The page in a headless Chromium, over real links of five nodes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet import reactor as _reactor
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.support.browser import CHROMIUM, Browser
from tests.support.processes import eventually
from twisted_mesh.admin.guard import Token
from twisted_mesh.admin.http import Paths
from twisted_mesh.admin.web import Web
from twisted_mesh.config import MeshConfig
from twisted_mesh.demo import Demo
from twisted_mesh.message import CaughtUp
from twisted_mesh.service import MeshService

reactor: Any = _reactor
T = TypeVar("T")
LOOPBACK = "tcp:0:interface=127.0.0.1"
MARKUP = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
NODES = "document.querySelectorAll('#graph .node').length"
#: pretend(nodes, links): from now on the page reads of a mesh of so many; it is the page of node 0.
CROWD = """
function pretend(count, most) {
  const ids = [...Array(count).keys()].map(String), pairs = new Set();
  for (let each = 1; each < count; each++) pairs.add(`${Math.floor(each / 2)} ${each}`);
  let random = 1;
  const draw = () => (random = (random * 48271) % 2147483647) % count;
  while (pairs.size < most) {
    const [one, other] = [draw(), draw()].sort((a, b) => a - b);
    if (one !== other) pairs.add(`${one} ${other}`);
  }
  const near = new Map(ids.map((id) => [id, []]));
  for (const pair of pairs) {
    const [one, other] = pair.split(" ");
    near.get(one).push(other);
    near.get(other).push(one);
  }
  const node = { id: "0", label: "here", subnet: "mesh", uptime_seconds: 1 };
  const members = ids.slice(1).map((id) => ({ id, label: `n${id}`, state: "up", since_unix_seconds: 1 }));
  const authors = ids.map((id) => ({ id, label: `n${id}`, head: 1, missing: 0, taken: 1 }));
  const link = { round_trip_seconds: 0.001, received_bytes: 1, sent_bytes: 1 };
  const links = near.get("0").map((peer) => ({ peer, label: null, ...link }));
  status = { node, members, authors, links, warnings: [] };
  map = ids.map((id) => ({ id, neighbours: near.get(id) }));
  const told = { status, graph: map };
  read = async (path) => told[path] ?? {};
}
"""
#: The median milliseconds of ten frames, and of ten statuses.
TIMES = """() => {
  const median = (call) => [...Array(10)].map(() => {
    const began = performance.now();
    call();
    return performance.now() - began;
  }).sort((one, other) => one - other)[5];
  return { frame: median(() => { move(); move(); place(); }), status: median(show) };
}"""


class BrowserCase(TestCase):
    """A browser that is steered from a thread, while the nodes run in this one."""

    timeout = 60
    if CHROMIUM is None:
        skip = "no Chromium here: apt-get install chromium"
    elif not os.environ.get("MESH_BROWSER"):
        skip = "a browser takes seconds: set MESH_BROWSER"

    async def open(self, paths: Paths) -> None:
        """Open the page of a node."""
        self.browser = await deferToThread(Browser)
        self.addCleanup(lambda: self.browser.close())
        await self.call(self.browser.size, 1280, 900)
        await self.call(self.browser.open, paths.addresses[0])
        await self.wait(NODES, 5)

    async def call(self, method: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Call a method of the browser in a thread, while the nodes run in this one."""
        result: T = await deferToThread(method, *arguments, **options)
        return result

    async def wait(self, script: str, wanted: object) -> None:
        """Wait until *script* gives *wanted*."""
        await self.call(self.browser.wait, script, wanted)

    async def value(self, script: str) -> Any:
        """What *script* gives."""
        return await self.call(self.browser.value, script)

    async def click(self, selector: str) -> None:
        """Click the first element that *selector* finds."""
        await self.value(f"document.querySelector({json.dumps(selector)}).click()")

    def folder(self) -> Path | None:
        """Where pictures are wanted: the folder that MESH_BROWSER names."""
        path = Path(os.environ["MESH_BROWSER"])
        return path if path.is_dir() else None


class PageTests(BrowserCase):
    async def setUp(self) -> None:
        config = MeshConfig(suspect_patience=1.0)
        self.nodes: list[MeshService] = []
        for label in ("web1", "web2", "d\u202eb", MARKUP[:64], "siren"):
            peers = [f"127.0.0.1:{node.addresses[0][1]}" for node in self.nodes[:2]]
            node = MeshService(reactor, listen=(LOOPBACK,), peers=peers, label=label, config=config)
            node.startService()
            self.nodes.append(node)
            self.addCleanup(lambda node=node: node.stopService() if node.running else None)
        paths = Paths(reactor, self.nodes[0])
        web = Web(reactor, paths, LOOPBACK, Token(Path("/token"), "t" * 32))
        web.startService()
        self.addCleanup(web.stopService)
        self.addCleanup(paths.stop)
        await eventually(lambda: len(self.nodes[0].members) == 4)
        await self.open(paths)

    async def test_what_people_do_with_it(self) -> None:
        nodes = self.nodes
        self.assertEqual(await self.value("location.hash + document.title"), "web1 · mesh")
        # all that others say is text
        self.assertIn(MARKUP[:18], await self.value("document.querySelector('#members').textContent"))
        await self.value("document.querySelector('#text').focus()")
        await self.call(self.browser.type, MARKUP)
        await self.call(self.browser.key, "Enter")
        # a receipt fills
        await self.wait(
            "document.querySelector('[data-receipt]')?.getAttribute('aria-label')", "4 of 4 have it"
        )
        # its way is drawn when it is clicked
        await self.wait("document.querySelectorAll('#messages button').length", 1)
        await self.value("document.querySelector('#messages button').click()")
        await self.wait("document.querySelectorAll('#graph .way:not(.head)').length", 4)
        self.assertEqual(await self.value("document.querySelectorAll('#trace-steps li').length"), 5)
        await self.call(self.browser.key, "Escape")
        await self.wait("document.querySelectorAll('#graph .way').length", 0)
        # a message of another node comes by itself
        nodes[2].send("fire", {"floor": 3})
        await self.wait("document.querySelectorAll('#messages button').length", 2)
        messages = await self.value("document.querySelector('#messages').textContent")
        self.assertIn('\u2068d\\u202eb\u2069: \u2068fire {"floor":3}\u2069', messages)
        # nor does an error of others turn the text around it
        nodes[0].emit("failure", Failure(ValueError("a\u202eb")))
        events = "document.querySelector('#events').textContent"
        await self.wait(f"{events}.includes('failure: a\\\\u202eb')", True)
        nodes[0].emit("caught_up", CaughtUp(1, 1, 2.5))
        await self.wait(f"{events}.includes('caught up: 1 message of 1 author in 2.5 s')", True)
        # one that is killed goes grey, and its links go
        await self.nodes[4].stopService()
        await self.wait(
            f"document.querySelector('[data-id=\"{nodes[4].id.decode()}\"]').classList.contains('left')",
            True,
        )
        self.assertIn("siren", await self.value(events))
        # nothing was executed, loaded from elsewhere or complained about
        self.assertEqual(await self.value("document.querySelectorAll('main script, main img').length"), 0)
        self.assertEqual(await self.value("document.title"), "web1 · mesh")
        self.assertEqual(self.browser.errors, [])
        await self.take_pictures()

    async def test_hundreds_of_nodes_are_drawn_without_freezing_and_of_more_the_nearest(self) -> None:
        for count, drawn, told in ((300, 300, ""), (1000, 300, "700 nodes not drawn")):
            near = "['0', ...status.links.map((link) => link.peer)]"
            looked = (
                NODES,
                "document.querySelector('#undrawn').textContent",
                "document.querySelectorAll('#graph .edge').length",
                f"{near}.every((id) => document.querySelector(`[data-id='${{id}}']`))",
                "document.querySelectorAll('#members tr').length",
            )
            # At once: the node's own answers may be under way, and take the crowd's place.
            show = f"{CROWD}; pretend({count}, {3 * count}); show(); [{', '.join(looked)}]"
            nodes, undrawn, edges, are_near, rows = await self.value(show)
            self.assertEqual((nodes, undrawn, are_near, rows), (drawn, told, True, min(count - 1, 300)))
            self.assertTrue(edges == 3 * count if drawn == count else 0 < edges < 3 * count, edges)
            # a frame, and what a status of the node that changes nothing costs (measured: 6 and 10 ms)
            took = await self.value(f"({TIMES})()")
            self.assertLess(took["frame"], 50, took)
            self.assertLess(took["status"], 100, took)
        if (folder := self.folder()) is not None:
            await self.call(self.browser.picture, folder / "many.png")

    async def take_pictures(self) -> None:
        """Write what it looks like: wide and narrow, light and dark."""
        if (folder := self.folder()) is None:
            return
        await self.value("document.querySelectorAll('#messages button')[1].click()")
        for width, height in ((1280, 1100), (400, 2400)):
            for dark in (False, True):
                await self.call(self.browser.size, width, height, dark=dark)
                await self.wait("ticking", False)
                await self.call(self.browser.picture, folder / f"{width}{'-dark' if dark else ''}.png")


class DemoTests(BrowserCase):
    async def setUp(self) -> None:
        self.demo = Demo(reactor, 0, control=False)
        self.demo.startService()
        self.addCleanup(self.demo.stopService)
        await eventually(lambda: all(len(node.members) == 4 for node in self.demo.nodes))
        await self.open(self.demo.paths)
        await self.wait("document.querySelector('#demo').hidden", False)

    async def send(self, text: str) -> None:
        """Type *text*, and Enter."""
        await self.value("document.querySelector('#text').focus()")
        await self.call(self.browser.type, text)
        await self.call(self.browser.key, "Enter")

    async def test_a_receipt_waits_at_the_cut_and_one_that_is_killed_goes_grey(self) -> None:
        bars = "document.querySelector('[data-receipt]')?.getAttribute('aria-label')"  # the newest
        await self.send("fire on floor 3")
        await self.wait(bars, "4 of 4 have it")
        await self.click("#messages button")
        await self.wait("document.querySelectorAll('#graph .way').length", 4)
        if (folder := self.folder()) is not None:
            await self.call(self.browser.size, 1100, 760)
            await self.wait("ticking", False)
            await self.call(self.browser.picture, folder / "demo.png")
            await self.call(self.browser.size, 400, 1800, dark=True)
            await self.wait("ticking", False)
            await self.call(self.browser.picture, folder / "demo-400-dark.png")
        await self.click("#demo-cut")
        await self.wait("document.querySelectorAll('#graph .edge').length < 5", True)
        await self.send("is anybody there?")
        await self.wait(bars, "1 of 4 have it")
        await self.click("#demo-heal")
        await self.wait(bars, "4 of 4 have it")
        await self.value("document.querySelector('#from').value = 'desk'")
        await self.send("I am")
        said = "document.querySelector('#messages button').textContent"
        await self.wait(f"{said}.startsWith('\\u2068desk\\u2069: \\u2068I am')", True)  # each text isolated
        siren = f"document.querySelector('[data-id=\"{self.demo.nodes[3].id.decode()}\"]').classList"
        await self.click("[aria-label='kill siren']")
        await self.wait(f"{siren}.contains('down')", True)
        await self.click("[aria-label='start siren']")
        await self.wait(f"{siren}.contains('up')", True)
        self.assertEqual(self.browser.errors, [])

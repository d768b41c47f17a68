"""The tutorial that py2p's users know, as a script, and typed at the prompt of an interpreter."""

from __future__ import annotations

import re
from typing import Any

from tests.support.processes import ANYWHERE, ProcessCase, reactor
from twisted_mesh.service import MeshService

#: 4444 stands for any free port, 4567 and 12345 for nodes of the same network, 4568 for one of 'mesh2'.
OPENING = """\
from twisted_mesh import mesh, base
sock = mesh.MeshSocket('', 4444)
sock = mesh.MeshSocket('', 4444, out_addr=('', 44565))
sock = mesh.MeshSocket('', 4444, prot=base.Protocol('mesh', 'SSL'))
print(mesh.default_protocol)

@sock.once('connect')
def call_once(conn):
    print("once", conn is sock)

def call_always(conn):
    print("always", conn is sock)

sock.on('connect', call_always)
"""

CONNECTING = """\
sock.connect('', 4567)
assert sock.routing_table
sock.send('this is', 'a test')
sock.send('to direct peers', flag=base.flags.whisper)
"""

ASKING = """\
sock.send('Did you get this?')
"""

RECEIVING = """\
msg = sock.recv()
print(msg)
print(msg.packets)
sock.recv()
for msg in sock.recv(10):
    msg.reply("Replying to a list")

"""

MESSAGES = """\
@sock.on('message')
def handle_msg(conn):
    msg = conn.recv()
    if msg is not None:
        msg.reply('this is an example')

sock.send('Say something')
"""

HANDLERS = """\
def register_1(msg, handler):
    packets = msg.packets
    if packets[1] == b'test':
        msg.reply(b"success")
        return True

def register_2(msg, handler):
    packets = msg.packets
    if packets[1] == b'test 2':
        handler.send(base.flags.whisper, base.flags.whisper, b"success", 2)
        return True

sock.register_handler(register_1)
sock.register_handler(register_2)
sock.send('Test me')
"""

EVENT = """\
sock = mesh.MeshSocket('', 4444)
@sock.on('connect')
def on_connect(conn):
    print("Hey! You got connected!")

sock.connect('', 12345)
"""

#: Lines whose values only the prompt shows, and errors, which would end a script.
AT_THE_PROMPT = """\
mesh.default_protocol
sock.register_handler(lambda msg: True)
sock.connect('', 4568)
sock.status
sock.recv()
"""


class TutorialTests(ProcessCase):
    """The other end is a service of the tests' own process."""

    def setUp(self) -> None:
        super().setUp()
        self.got: list[list[Any]] = []
        self.peer = self.service()
        self.other = self.service(subnet="mesh2")
        self.peer.on("message", self.heard)
        self.refused: list[Any] = []
        self.other.on("refused", self.refused.append)
        self.replied = 0

    def service(self, **options: Any) -> MeshService:
        """A node to connect to."""
        node = MeshService(reactor, listen=[ANYWHERE], **options)
        node.startService()
        self.addCleanup(node.stopService)
        return node

    def heard(self, message: Any) -> None:
        """Answer the messages of the tutorial."""
        self.got.append(message.packets)
        match message.packets[1]:
            case "Did you get this?":
                message.reply(b"yes", b"I did")
            case "Say something":
                message.reply("something")
            case "Test me":
                message.reply(b"test")
                message.reply(b"test 2")

    def with_ports(self, text: str) -> str:
        """A part of the tutorial, with the ports of the services in place of its own."""
        nodes = {"4567": self.peer, "12345": self.peer, "4568": self.other}
        ports = {port: str(node.addresses[0][1]) for port, node in nodes.items()} | {"4444": "0"}
        # All in one go: a new port can contain the digits of another, such as 44447.
        return re.sub(rf"\b({'|'.join(ports)})\b", lambda port: ports[port[0]], text)

    @property
    def answer(self) -> list[str]:
        """The lines that print the answer to 'Did you get this?'."""
        whom = self.peer.id
        return [f"message(type=2, packets=[b'yes', b'I did'], sender={whom!r})", "[2, b'yes', b'I did']"]

    async def until_all_is_said(self) -> None:
        """Wait for the replies of listeners and handlers."""
        replies = [[2, "this is an example"], [2, b"success"], [2, b"success", 2]]
        await self.until(lambda: all(reply in self.got for reply in replies))
        self.assertEqual(
            self.got[:3],
            [[0, "this is", "a test"], [0, "to direct peers"], [0, "Did you get this?"]],
        )

    async def test_as_a_script(self) -> None:
        wait = "while not sock.queue: pass\n"
        text = OPENING + CONNECTING + ASKING + wait + RECEIVING + MESSAGES + HANDLERS
        script = self.fork(self.with_ports(text) + "input()\n" + self.with_ports(EVENT))
        await self.until_all_is_said()
        script.type("\n")
        self.assertEqual(await self.until_ended(script), [0])
        self.assertEqual(script.log, "")
        told = ["Protocol(subnet='mesh', encryption='SSL')", "once True", "always True", *self.answer]
        self.assertEqual(script.lines, [*told, "Hey! You got connected!"])

    async def test_at_the_prompt(self) -> None:
        prompt = self.start("-i", "-q")
        prompt.type(self.with_ports(OPENING + CONNECTING + ASKING))
        await self.until(lambda: [0, "Did you get this?"] in self.got)
        prompt.type("while not sock.queue: pass\n\n" + RECEIVING + MESSAGES)
        prompt.type(HANDLERS)
        await self.until_all_is_said()
        self.assertEqual(re.sub(r">>> |\.\.\. ", "", prompt.log).strip(), "")
        told = ["Protocol(subnet='mesh', encryption='SSL')", "once True", "always True", *self.answer]
        # on() returns the listener, and the prompt shows it.
        echo = next(line for line in prompt.lines if line.startswith("<function call_always"))
        told.insert(1, echo)
        self.assertEqual(prompt.lines, told)
        prompt.type(self.with_ports(EVENT))
        await self.until(lambda: len(prompt.lines) > len(told))
        prompt.type("print('and nothing else')\n")
        await self.until(lambda: "and nothing else" in prompt.lines)
        self.assertEqual(prompt.lines[len(told) :], ["Hey! You got connected!", "and nothing else"])
        self.assertEqual(re.sub(r">>> |\.\.\. ", "", prompt.log).strip(), "")
        prompt.type(self.with_ports(AT_THE_PROMPT))
        prompt.end_input()
        self.assertEqual(await self.until_ended(prompt), [0])
        self.assertEqual(prompt.lines[len(told) + 2 :], [told[0], "'Nominal'"])
        self.assertIn("ValueError: a handler must take exactly two arguments", prompt.log)
        self.assertRegex(prompt.log, r"SubnetMismatch: another subnet, or trust by other means \[subnet\]")
        await self.until(lambda: self.refused)
        prompt.err = b""  # these tracebacks are what it must show

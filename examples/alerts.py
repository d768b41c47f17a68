"""Alerts in a plain script, without Twisted: a watcher prints each alert, and answers that it was seen.

In two terminals::

    python alerts.py watch 4444
    python alerts.py raise 127.0.0.1:4444 "the disk of web1 is full"

To alert other hosts, too, put '' in place of ``LOOPBACK``.
"""

import socket
import sys
from contextlib import suppress
from threading import Thread

from twisted_mesh import errors, mesh

LOOPBACK = "127.0.0.1"


def watch(port):
    with mesh.MeshSocket(LOOPBACK, int(port)) as sock:
        print("watching on port", sock.out_addr[1], flush=True)
        while message := sock.recv(timeout=None):
            match message.packets[1:]:
                case ["alert", host, text]:
                    print(f"ALERT from {host!r}: {text!r}", flush=True)  # no control characters
                    Thread(target=answer, args=(message,)).start()  # so the next alert need not wait


def answer(message):
    with suppress(errors.Unreachable):  # another watcher answered first, and the sender is gone
        message.reply("seen", socket.gethostname())


def raise_alert(peer, text):
    host, port = peer.split(":")
    with mesh.MeshSocket(LOOPBACK, 0) as sock:
        sock.connect(host, int(port))
        sock.send("alert", socket.gethostname(), text)
        while message := sock.recv(timeout=2):
            match message.packets[1:]:
                case ["seen", where]:
                    print(f"seen on {where!r}")
                    return
        print("sent; nobody has said that it was seen")


with suppress(KeyboardInterrupt):
    match sys.argv[1:]:
        case ["watch", port]:
            watch(port)
        case ["raise", peer, text]:
            raise_alert(peer, text)
        case _:
            sys.exit(__doc__)

"""Refuses packed bytes that would take too long, or too much memory, to unpack.

Contract: :func:`check` unpacks nothing, and raises ValueError for two kinds of bodies.

* The body has more than 16,384 lists and dicts, besides one list for each message.  An empty list has one
  byte packed and 64 unpacked (measured: 1 MiB of them takes 70 MiB and 0.7 seconds).
* A dict has keys that an author could have chosen so that all collide in Python's hash table.  Unpacking
  such a dict takes time quadratic in its size (measured: 70 seconds for 1 MiB of colliding lists as keys,
  9 seconds for integers).  str and bytes cannot be chosen so, since their hashes are seeded.

A search or a count of bytes shows that nearly every body is harmless.  The other bodies are read value by
value (0.2 us each).
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Final

MAX_DEPTH: Final = 32  # of lists and dicts inside a packet; protocol 1
MAX_NUMBER_KEYS: Final = 4096  # int and float keys in a dict (measured: 1 MiB of them takes up to 0.6 s)
MAX_CONTAINERS: Final = 16_384  # lists and dicts in a batch (measured: they take 10 ms); protocol 1

# Finds the head of a dict of 1,024 entries or more, or bytes that look like such a head.
_large_dict = re.compile(rb"\xde[\x04-\xff]|\xdf").search

# By first byte: the size of a value in bytes; 0 if the first byte alone does not tell the size.
_SIZE = bytearray(256)
_SIZE[0x00:0x80] = b"\x01" * 128  # small integers
_SIZE[0xA0:0xC0] = bytes(range(1, 33))  # short text
_SIZE[0xC0], _SIZE[0xC2], _SIZE[0xC3] = 1, 1, 1  # None, False, True
_SIZE[0xCA:0xD4] = bytes((5, 9, 2, 3, 5, 9, 2, 3, 5, 9))  # floats and integers
_SIZE[0xE0:0x100] = b"\x01" * 32  # small negative integers
# By first byte: in how many further bytes the length, or the count of items, is.
_LENGTH: Final = {0xD9: 1, 0xDA: 2, 0xDB: 4, 0xC4: 1, 0xC5: 2, 0xC6: 4}  # long text and bytes
_COUNT: Final = {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}  # long lists and dicts
_CONTAINERS: Final = bytes((*range(0x80, 0xA0), *_COUNT))  # the first bytes of lists and dicts

# A body with more bytes than this for each message is read value by value at once: counting the bytes that
# may begin a list or dict first takes 0.15 to 0.8 us a KiB (measured).
_LARGE_MESSAGES: Final = 512


def _values_of_fixed_size() -> str:
    """A regular expression that matches a row of values that each show their size by the first byte."""
    heads: defaultdict[int, str] = defaultdict(str)
    for head, size in enumerate(_SIZE):
        heads[size] += f"\\x{head:02x}"
    longer = (f"[{heads[size]}].{{{size - 1}}}" for size in sorted(heads) if size > 1)
    return f"(?s:[{heads[1]}]++|{'|'.join(longer)})*+"


_skip_fixed = re.compile(_values_of_fixed_size().encode()).match


def length_of(body: bytes | memoryview) -> int:
    """How many values there are in the packed list *body*.

    :raises ValueError: *body* is no list.
    """
    head = body[0]
    if 0x90 <= head < 0xA0:
        return head & 0x0F
    if head not in (0xDC, 0xDD):
        raise ValueError("it is no list")
    return int.from_bytes(body[1 : 1 + _COUNT[head]], "big")


def check(body: bytes) -> None:
    """Check that unpacking *body* takes time and memory in proportion to its size.

    :raises ValueError: unpacking would take more, or *body* is no msgpack.
    """
    has_large_dicts = True
    if len(body) > MAX_CONTAINERS:  # each takes a byte at least
        messages = length_of(body)
        most = 1 + messages + MAX_CONTAINERS  # the body is a list, and each message is one
        is_short = len(body) <= messages * _LARGE_MESSAGES
        if not is_short or len(body) - len(body.translate(None, _CONTAINERS)) > most:
            has_large_dicts = _count_containers(body, most)
    # Most bodies hold none of the two bytes; `in` takes a fiftieth of the time of the search (measured).
    if has_large_dicts and (b"\xde" in body or b"\xdf" in body) and _large_dict(body):
        try:
            _skip(body, 0, 1, -2)  # two lists are around each packet: the body and the entry
        except IndexError:
            raise ValueError("packed data that ends too early") from None


def _count_containers(body: bytes, most: int) -> bool:
    """Check that there are at most *most* lists and dicts; return whether a dict may be large."""
    at = found = 0
    has_large_dicts = False
    while (skipped := _skip_fixed(body, at)) and (at := skipped.end()) < len(body):
        head = body[at]
        if head in _LENGTH:
            at = _behind(body, at)
        elif head in _COUNT or 0x80 <= head < 0xA0:
            at += 1 + _COUNT.get(head, 0)
            has_large_dicts |= head >= 0xDE
            found += 1
            if found > most:
                raise ValueError(f"more than {MAX_CONTAINERS} lists and dicts")
        else:
            raise ValueError(f"a value that begins with the byte {head:#04x}, or ends too early")
    return has_large_dicts


def _skip(body: bytes, at: int, values: int, depth: int) -> int:
    """Skip *values* values from the position *at* on; return the position behind them."""
    for _ in range(values):
        head = body[at]
        if _SIZE[head]:
            at += _SIZE[head]
        elif head in _LENGTH:
            at = _behind(body, at)
        else:
            at = _container(body, at, depth)
    return at


def _container(body: bytes, at: int, depth: int) -> int:
    """Skip the list or dict at the position *at*; return the position behind it."""
    head = body[at]
    if depth == MAX_DEPTH:
        raise ValueError(f"packets nested deeper than {MAX_DEPTH}")
    if head in _COUNT:
        width = _COUNT[head]
        count = int.from_bytes(body[at + 1 : at + 1 + width], "big")
        at += 1 + width
    elif 0x80 <= head < 0xA0:
        count = head & 0x0F
        at += 1
    else:
        raise ValueError(f"a value that begins with the byte {head:#04x}")
    if head >= 0xDE or head < 0x90:
        return _dict(body, at, count, depth + 1)
    return _skip(body, at, count, depth + 1)


def _dict(body: bytes, at: int, entries: int, depth: int) -> int:
    """Skip *entries* keys and values from the position *at* on; return the position behind them."""
    numbers = 0
    for _ in range(entries):
        head = body[at]
        if _SIZE[head]:
            at += _SIZE[head]
            numbers += head < 0x80 or head >= 0xCA
        elif head in _LENGTH:
            at = _behind(body, at)
        else:
            raise ValueError("a dict key that is neither text, bytes nor a number")
        at = _skip(body, at, 1, depth)
    if numbers > MAX_NUMBER_KEYS:
        raise ValueError(f"a dict with more than {MAX_NUMBER_KEYS} numbers as keys")
    return at


def _behind(body: bytes, at: int) -> int:
    """Skip the long text or bytes at the position *at*; return the position behind them."""
    width = _LENGTH[body[at]]
    return at + 1 + width + int.from_bytes(body[at + 1 : at + 1 + width], "big")

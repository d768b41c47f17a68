"""Numbers for the ``flag`` of ``send``, and for a message's type, the first item of ``packets``.

Contract: numbers only.  ``broadcast`` and ``whisper`` are both flags (``send(flag=…)``) and message types;
the other numbers of 0x00-0x2f belong to the protocol.  Source: py2p 0.7.
"""

from __future__ import annotations

from typing import Final

broadcast: Final = 0x00  #: to every member
whisper: Final = 0x02  #: to direct peers only, not relayed

user_types_from: Final = 0x30  #: the first type number that applications may use
user_types_to: Final = 0xFFFF_FFFF_FFFF_FFFF  #: the last type number (msgpack's largest integer)


def is_user_type(number: object) -> bool:
    """Whether *number* may be the type of an application's message: 0, 2 or 0x30 and above."""
    return type(number) is int and (
        number in (broadcast, whisper) or user_types_from <= number <= user_types_to
    )


def check_user_type(number: object) -> None:
    """:raises ValueError: *number* may not be the type of an application's message."""
    if not is_user_type(number):
        raise ValueError(f"type must be 0, 2 or 0x30 and above, not {number!r}")

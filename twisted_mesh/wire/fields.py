"""Types of fields that several frames have.

Contract: msgspec checks every decoded value against these types.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from twisted_mesh.identity import MAX_EPOCH

MAX_NUMBER: Final = MAX_EPOCH  # epochs, sequences and times beyond 2^62 are false claims

Origin = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Number = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
Head = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER - 1)]  # so that head + 1 is a Number, too
Sequence = Annotated[int, msgspec.Meta(ge=1, le=MAX_NUMBER)]

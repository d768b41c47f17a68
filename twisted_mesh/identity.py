"""A node's key, and its epochs.  An epoch is the number of a run of the node, and is never used twice.

Contract: a node's *origin* is its 32-byte Ed25519 public key.  Its *id* is base58 of the SHA-384 of the
origin, so no other key has the id.  A key file is PKCS8 PEM, with mode 0600.  It is created only if there
is no such file, and refused if others can read it.  The newest epoch is in ``FILE.epoch`` beside the key
file, and is on disk before a run uses it.  ``FILE.runs`` has the epoch and the end of earlier runs, of
which others may still hold messages.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from secrets import randbelow
from typing import BinaryIO, Final, Self

import base58
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from nacl.bindings import crypto_sign, crypto_sign_open
from nacl.exceptions import BadSignatureError

from twisted_mesh.errors import IdentityError

ORIGIN_BYTES: Final = 32  # of a public key
MAX_EPOCH: Final = 2**62  # no honest epoch is greater (docs/protocol.rst)
#: The highest epoch of the node's own key that the node believes if a peer claims it.  An epoch is a time
#: in milliseconds since 1970; this one is in the year 2248.
MOST_CLAIMED: Final = 2**43
#: If the clock is ahead of the last epoch, the random part of a new epoch is below so many milliseconds:
#: two starts more than a second apart keep their order (guess).  Without it, two runs with a dead clock
#: that begin from one backup of the key's files would have the same epoch.
_CHANCE: Final = 2**10
#: If the clock is not ahead, the random part is below this: one pair of runs in a million has the same
#: epoch, and it takes 13 million starts without a clock to come to :data:`MOST_CLAIMED` (guess).
_CHANCE_WITHOUT_CLOCK: Final = 2**20
_RUNS_KEPT: Final = 256  # earlier runs kept beside a key: hourly restarts for ten days (guess)
_IDS_CACHED: Final = 4096  # ids kept of the origins used last (guess)
_SIGNATURE_BYTES: Final = 64
#: Signatures that other libraries accept, each with its key before and its text behind it.  The first fits
#: only if both sides of the equation are multiplied by 8, the second is of a key of small order.
_FALSE: Final = (
    (
        bytes.fromhex("03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"),
        bytes.fromhex(
            "607055ca3d4aa8af26961afb12b1e60a75fac88f9c260ff25806631dbb269159"
            "4448dd4a91a78cea11c3816390f52427ae8c4ed6608d39d324e11decc4ad8d05"
        ),
        b"5",
    ),
    (b"\x01" + bytes(31), b"\x01" + bytes(63), b""),
)


@lru_cache(maxsize=_IDS_CACHED)
def id_of(origin: bytes) -> bytes:
    """The id of the node with the public key *origin*: 64 to 66 base58 characters, rarely fewer."""
    return base58.b58encode_int(int.from_bytes(hashlib.sha384(origin).digest(), "big"))


def ids_of(origins: Iterable[bytes]) -> frozenset[bytes]:
    """The ids of the nodes with these public keys."""
    return frozenset(map(id_of, origins))


def verify(origin: bytes, signature: bytes, data: bytes) -> bool:
    """Whether *signature* (64 bytes) over *data* was made with the private key of *origin* (32 bytes).

    The verdict is libsodium's (docs/protocol.rst): anybody could find a signature that fits a key of small
    order, so that is no key, and all nodes agree about each signature.
    """
    # PyNaCl looks at neither length: it would read beyond a short key, and take a byte too many for text
    if len(origin) != ORIGIN_BYTES or len(signature) != _SIGNATURE_BYTES:
        return False
    try:
        crypto_sign_open(signature + data, origin)
    except BadSignatureError:
        return False
    return True


def require_same_verdicts(verify: Callable[[bytes, bytes, bytes], bool]) -> None:
    """:raises ImportError: *verify* takes a signature for good that other nodes take for false."""
    if any(verify(*false) for false in _FALSE):
        raise ImportError(
            "this libsodium verifies signatures otherwise than the nodes of a mesh do: "
            "install the wheel of PyNaCl 1.6.2"
        )


require_same_verdicts(verify)


class Identity:
    """A node's private key, and the epochs of the runs that used it.

    A run is one start of a node.  Its epoch is a number that rises with each run.

    :ivar origin: the public key, 32 bytes.
    :ivar id: the node's id.
    :ivar path: the key's file, absolute; None if the key is in no file.
    """

    def __init__(self, key: Ed25519PrivateKey, path: Path | None = None) -> None:
        self._key = key
        self._newest_epoch = 0
        self._is_new = path is None  # whether the key was made in this process
        # Earlier runs, the lowest first: epoch, and end in ms since 1970.
        self._runs: list[tuple[int, int]] = []
        # Absolute: a daemon may change its directory before it writes the epoch.
        self.path = None if path is None else path.absolute()
        self._epoch_file = None if self.path is None else self.path.with_name(f"{self.path.name}.epoch")
        self._runs_file = None if self.path is None else self.path.with_name(f"{self.path.name}.runs")
        self.origin = key.public_key().public_bytes_raw()
        self.id = id_of(self.origin)
        self._secret = key.private_bytes_raw() + self.origin  # as libsodium wants it

    @property
    def private_key(self) -> Ed25519PrivateKey:
        """The key itself, for TLS."""
        return self._key

    def __repr__(self) -> str:
        kept = "in no file" if self.path is None else f"in {str(self.path)!r}"
        return f"<identity {self.id.decode()}, {kept}>"

    def sign(self, data: bytes) -> bytes:
        """The signature over *data*, 64 bytes."""
        return crypto_sign(data, self._secret)[:_SIGNATURE_BYTES]

    @classmethod
    def generate(cls) -> Self:
        """A new key that is in no file."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: str | os.PathLike[str], kind: str = "identity") -> Self:
        """The key in the file *path*.

        :param kind: what the key is, for errors.
        :raises IdentityError: no such file, not an Ed25519 key in PEM, or others can read it.
        """
        # The error is raised here, so that no function that has a key in a variable is in its traceback.
        file = Path(path)
        key = _read_key(file)
        if isinstance(key, str):
            raise IdentityError(f"{kind} {file}{key}")
        return cls(key, file)

    @classmethod
    def create(cls, path: str | os.PathLike[str], kind: str = "identity") -> Self:
        """A new key in the new file *path*, mode 0600.

        :param kind: what the key is, for errors.
        :raises IdentityError: the file exists, or cannot be written.
        """
        file, key = Path(path), Ed25519PrivateKey.generate()
        if (why := write_new(file, _pem_of(key))) is not None:  # raised here, as in load()
            raise IdentityError(f"{kind} {file}: {why}")
        identity = cls(key, file)
        identity._is_new = True
        return identity

    @classmethod
    def load_or_create(cls, path: str | os.PathLike[str]) -> Self:
        """The key in the file *path*; if there is no such file, create it.

        :raises IdentityError: as :meth:`load` and :meth:`create` do.
        """
        return cls.load(path) if os.path.lexists(path) else cls.create(path)

    def next_epoch(self, wall_ms: int, draw: Callable[[int], int] = randbelow) -> int:
        """The epoch of a run that begins now: it is greater than all earlier epochs of this key.

        The epoch is on disk when this method returns, so that no later run uses it, even after a crash.
        Part of it is random, since the files of a key can be restored from a backup, and clocks be wrong.

        :param wall_ms: milliseconds of wall clock since 1970.
        :param draw: returns a random number from 0 to one below its argument.
        :raises IdentityError: the file beside the key cannot be read or written.
        """
        kept = self._kept_epoch()
        least = max(kept + 1, wall_ms)
        chance = _CHANCE if wall_ms > kept else _CHANCE_WITHOUT_CLOCK
        epoch = least + draw(chance) if least + chance <= MOST_CLAIMED else least
        if epoch > MAX_EPOCH:
            raise IdentityError(f"epoch {epoch} is beyond 2^62: is this machine's clock right?")
        runs = self._earlier_runs(kept, wall_ms)
        if self._epoch_file is not None and self._runs_file is not None:
            file = self._runs_file
            try:
                if runs:
                    replace_synced(file, b"".join(b"%d %d\n" % run for run in runs))
                file = self._epoch_file
                replace_synced(file, b"%d\n" % epoch)
            except OSError as error:
                raise IdentityError(f"epoch {file}: {error.strerror}") from error
        self._newest_epoch, self._runs = epoch, runs
        return epoch

    def earlier_runs(self, seconds: float, wall_ms: int) -> tuple[tuple[int, float], ...]:
        """The epochs of earlier runs that ended less than *seconds* ago, each with the rest of that time.

        Epoch 0 stands for all runs of which nothing is known.  If a clock was wrong, a run may be returned
        for too long.
        """
        rests = ((epoch, seconds - max(0, wall_ms - end) / 1000) for epoch, end in self._runs)
        return tuple((epoch, rest) for epoch, rest in rests if rest > 0)

    def _earlier_runs(self, kept: int, wall_ms: int) -> list[tuple[int, int]]:
        """The runs before the one that begins now, the newest of which is *kept*; 0 if none is known."""
        runs = self._kept_runs(kept, wall_ms)
        if kept:
            runs.append((kept, wall_ms))
        # No run ended before it began: the clock was wrong
        runs = sorted((epoch, end if end >= epoch else max(wall_ms, epoch)) for epoch, end in runs)
        while len(runs) > _RUNS_KEPT:
            (lowest, end), (_, later), *rest = runs
            runs = [(lowest, max(end, later)), *rest]
        return runs

    def _kept_runs(self, kept: int, wall_ms: int) -> list[tuple[int, int]]:
        unknown = [] if self._is_new else [(0, wall_ms)]
        if self._newest_epoch or (file := self._runs_file) is None:
            return self._runs[:]
        try:
            lines = file.read_bytes().splitlines()
            runs = [(int(epoch), int(end)) for epoch, end in map(bytes.split, lines)]
        except (OSError, ValueError):
            return unknown
        return runs if kept else unknown

    def _kept_epoch(self) -> int:
        if (file := self._epoch_file) is None:
            return self._newest_epoch
        try:
            return max(int(file.read_bytes()), self._newest_epoch)
        except FileNotFoundError:
            return self._newest_epoch
        except ValueError as error:
            raise IdentityError(f"epoch {file} is damaged: delete it if the clock is right") from error
        except OSError as error:
            raise IdentityError(f"epoch {file}: {error.strerror}") from error


def _read_key(file: Path) -> Ed25519PrivateKey | str:
    """The key in *file*, or why it cannot be used; the text goes on after the name of the file."""
    try:
        with open_regular(file) as stream:
            mode = os.fstat(stream.fileno()).st_mode
            pem = stream.read()
    except OSError as error:
        return f": {error.strerror}"
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return " holds no private key in PEM: restore it, or name another file"
    if not isinstance(key, Ed25519PrivateKey):
        return " holds another kind of key than Ed25519"
    if mode & (stat.S_IRWXG | stat.S_IRWXO):  # checked late: the advice is right only for a key
        return f" can be read by others: chmod 600 {file}"
    if (count := pem.count(b"PRIVATE KEY-----") // 2) > 1:
        return f" holds {count} private keys: keep the one that this node is to have"
    return key


def _pem_of(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def write_new(file: Path, content: bytes) -> str | None:
    """Write *content* to the new *file*, mode 0600; if that fails, there is no file.

    :return: why it failed, or None.  It is no error, whose traceback would show *content*.
    """
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        _write_synced(descriptor, file, content)
        _sync_directory(file)
    except OSError as error:
        return error.strerror
    return None


def open_regular(file: Path) -> BinaryIO:
    """*file*, to be read; it is no pipe, whose reader would wait for somebody to write.

    :raises OSError: it cannot be read, or is a pipe or a device.
    """
    stream = open(file, "rb", opener=_without_waiting)  # noqa: SIM115  # the caller closes it
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise OSError(errno.EINVAL, "Not a regular file", os.fspath(file))
    return stream


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def replace_synced(file: Path, content: bytes) -> None:
    """Write *content* to *file*, mode 0600; after a crash the file has either its old content or the new.

    :raises OSError: *file* cannot be written, and has the old content.
    """
    # The new file has a random name, so that no user who can write the folder can put a link in its place.
    descriptor, beside = tempfile.mkstemp(".new", f"{file.name}.", file.parent)
    _write_synced(descriptor, beside, content)
    try:
        os.replace(beside, file)
    except OSError:
        os.unlink(beside)
        raise
    _sync_directory(file)


def _write_synced(descriptor: int, file: str | Path, content: bytes) -> None:
    """Write *content* to the new *file*, which is open as *descriptor*, and close it."""
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:
        os.unlink(file)  # half a file would hinder the next attempt
        raise


def _sync_directory(file: Path) -> None:
    # A new name is on disk only once its directory is (POSIX); Windows cannot open directories.
    if os.name == "posix":  # pragma: no branch
        descriptor = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

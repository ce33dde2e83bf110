"""What is known of the bytes of an object, so that they can be verified when they are read."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

import msgspec

PART: Final = 8 * 1024 * 1024
"""Bytes of one part of an upload, and what is fetched and verified at once."""
DIGESTS: Final = ".pulp-digests"
"""Where the digests of objects in parts are, below the prefix; no program can name it."""
OWN_SHA256: Final = "pulp-sha256"
"""Metadata of an object in one piece: its SHA-256."""
PARTED: Final = "pulp-digests"
"""Metadata of an object in parts: its digests are beside it."""

_DIGEST: Final = 32


class Digest(msgspec.Struct, frozen=True):
    """The digests of one version of an object.

    Attributes:
        etag: of the version.
        size: bytes.
        whole: SHA-256 of all of it.
        parts: SHA-256 of each 8 MiB, one after the other.
    """

    etag: str
    size: int
    whole: bytes
    parts: bytes

    @classmethod
    def of_one(cls, etag: str, size: int, digest: str) -> Digest | None:
        """Return that of an object in one piece; None if the text is none."""
        try:
            whole = bytes.fromhex(digest)
        except ValueError:
            return None
        return cls(etag, size, whole, whole) if size <= PART else None

    @property
    def parted(self) -> bool:
        """Whether the object has several parts."""
        return self.size > PART

    @property
    def fits(self) -> bool:
        """Whether there are as many digests as parts."""
        return len(self.whole) == _DIGEST and len(self.parts) == _DIGEST * -(-self.size // PART)

    def of(self, number: int) -> bytes:
        """Return the digest of a part."""
        return self.parts[number * _DIGEST : (number + 1) * _DIGEST]

    def metadata(self) -> dict[str, str]:
        """Return what the object's own metadata say of it."""
        return {PARTED: "1"} if self.parted else {OWN_SHA256: self.whole.hex()}


class Hashing:
    """Digests of bytes that come in order, part by part."""

    def __init__(self) -> None:
        self._whole: Final = sha256()
        self._parts: Final = bytearray()
        self.size = 0

    def part(self, data: bytes | bytearray) -> None:
        """Go on with a part; all but the last have 8 MiB."""
        self._whole.update(data)
        self._parts.extend(sha256(data).digest())
        self.size += len(data)

    def done(self, etag: str) -> Digest:
        """Return the digests."""
        return Digest(etag, self.size, self._whole.digest(), bytes(self._parts))

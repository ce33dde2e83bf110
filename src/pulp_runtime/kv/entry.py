"""What a store holds and tells: entries, changes, and what a key may be."""

from __future__ import annotations

from typing import Final, NamedTuple

from pulp_runtime.kv.fault import KeyInvalid, KeyTooLong, ValueTooLarge

KEY_BYTES: Final = 1024
"""Longest key, in bytes of UTF-8."""
VALUE_BYTES: Final = 16 * 1024 * 1024
"""Longest value."""
BATCH: Final = 10_000
"""Most changes that are made at once."""
PAGE: Final = 1000
"""Most entries of one page of a listing."""
MAX_TTL_SECONDS: Final = 0xFFFF_FFFF
"""Longest time to live: 136 years."""
SECOND_NS: Final = 1_000_000_000


class Entry(NamedTuple):
    """What is at a key.

    Attributes:
        value: up to 16 MiB.
        revision: of the change that put it there.
        modified_ns: when that was, nanoseconds since 1970.
        expires_ns: when it disappears, 0 for never.
        inode: the revision that created the key; it stays until the key is deleted, also when it is renamed.
    """

    value: bytes
    revision: int
    modified_ns: int
    expires_ns: int
    inode: int


class Listed(NamedTuple):
    """A key of a listing; the fields are those of `Entry`, with the value's size in its place."""

    key: bytes
    size: int
    revision: int
    modified_ns: int
    expires_ns: int
    inode: int


class Change(NamedTuple):
    """One change of one key.

    Attributes:
        key: which.
        revision: of the change; each has one of its own, higher than all before.
        deleted: whether the key is gone, else it has been put.
    """

    key: bytes
    revision: int
    deleted: bool


class Put(NamedTuple):
    """A value to be stored, as one of several changes.

    Attributes:
        key: where.
        value: what.
        expect: the revision that must be there, 0 for none; None for no matter what.
        ttl_seconds: when it disappears again, 0 for never; None for when what it replaces would have.
    """

    key: bytes
    value: bytes
    expect: int | None = None
    ttl_seconds: int | None = 0


class Delete(NamedTuple):
    """A key to be deleted, as one of several changes; one that is missing is as good, without `expect`.

    Attributes:
        key: which.
        expect: the revision that must be there, 0 for none; None for no matter what.
    """

    key: bytes
    expect: int | None = None


def check_key(key: bytes) -> None:
    """Return if a store takes the key: 1 to 1,024 bytes of UTF-8 without NUL. Keys are never folded.

    Raises:
        KeyInvalid: saying why it does not.
    """
    if not key:
        raise KeyInvalid("a key is not empty")
    if len(key) > KEY_BYTES:
        raise KeyTooLong(f"a key has at most {KEY_BYTES} bytes, not {len(key)}")
    if b"\0" in key:
        raise KeyInvalid("a key has no NUL in it")
    try:
        key.decode()
    except UnicodeDecodeError as error:
        raise KeyInvalid(f"a key is UTF-8: {error}") from None


def check_value(value: bytes) -> None:
    """Return if a store takes the value; raise `ValueTooLarge` if it does not."""
    if len(value) > VALUE_BYTES:
        raise ValueTooLarge(f"a value has at most {VALUE_BYTES} bytes, not {len(value)}")


def after_prefix(prefix: bytes) -> bytes:
    """Return the least bytes after all keys that begin with `prefix`."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else b"\xff"  # no key begins with that

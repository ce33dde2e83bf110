"""Records of `storage.kv`. Keys are text, values bytes; a revision counts the changes of a store from 1."""

from __future__ import annotations

from typing import Annotated

import msgspec

U32 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]
#: Revisions stay far below the end of int64, which is as far as msgspec's bounds reach.
Revision = Annotated[int, msgspec.Meta(ge=0)]
Int64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]

CHANGE = "kv.change"
"""Kind of the event that a watch posts."""


class KvEntry(msgspec.Struct, kw_only=True, frozen=True):
    """What is at a key.

    Attributes:
        value: the bytes.
        revision: of the change that put them there.
        modified_ns: when that was, nanoseconds since 1970.
        expires_ns: when they disappear, 0 for never.
    """

    value: bytes
    revision: int
    modified_ns: int
    expires_ns: int


class KvList(msgspec.Struct, kw_only=True, frozen=True):
    """A page of keys that a cell asks for.

    Attributes:
        prefix: what they begin with.
        after: the last key of the page before, "" for the first page.
        limit: most keys, 1..1,000; 0 means 1,000.
    """

    prefix: str = ""
    after: str = ""
    limit: U32 = 0


class KvKey(msgspec.Struct, kw_only=True, frozen=True):
    """A key of a listing.

    Attributes:
        key: the key.
        size: of its value, in bytes.
        revision: see `KvEntry`, like the next two.
        modified_ns: see there.
        expires_ns: see there.
    """

    key: str
    size: int
    revision: int
    modified_ns: int
    expires_ns: int


class KvListed(msgspec.Struct, kw_only=True, frozen=True):
    """A page.

    Attributes:
        keys: in the order of their bytes.
        more: whether there may be another page.
    """

    keys: list[KvKey]
    more: bool


class KvChange(msgspec.Struct, kw_only=True, frozen=True):
    """One change: by itself the request of `kv_cas`, or one of several of `kv_batch`.

    Attributes:
        key: which.
        value: what to put there; None, which is also what a missing field means, deletes the key.
        revision: the revision that must be there, 0 for none; None for no matter what.
        ttl_seconds: when it disappears again, 0 for never.
    """

    key: str = ""
    value: bytes | None = None
    revision: Revision | None = None
    ttl_seconds: U32 = 0


class KvBatch(msgspec.Struct, kw_only=True, frozen=True):
    """Changes that happen together or not at all.

    Attributes:
        changes: in order, at most 10,000.
    """

    changes: list[KvChange] = []


class KvRevision(msgspec.Struct, kw_only=True, frozen=True):
    """What became of a change.

    Attributes:
        revision: of the last change, or of the store if nothing had to be changed.
    """

    revision: int


class KvIncrement(msgspec.Struct, kw_only=True, frozen=True):
    """A number to be counted up or down.

    Attributes:
        key: where it is, in decimal digits; nothing counts as 0.
        by: what to add.
    """

    key: str = ""
    by: Int64 = 1


class KvNumber(msgspec.Struct, kw_only=True, frozen=True):
    """The number afterwards.

    Attributes:
        value: the number.
        revision: of the change.
    """

    value: int
    revision: int


class KvWatch(msgspec.Struct, kw_only=True, frozen=True):
    """What a cell wants to be told of.

    Attributes:
        prefix: what the keys begin with.
    """

    prefix: str = ""


class KvWatching(msgspec.Struct, kw_only=True, frozen=True):
    """A watch that has begun.

    Attributes:
        watch: its number, in the events and for `kv_unwatch`.
        revision: every change with a higher one will be told.
    """

    watch: int
    revision: int


class KvEvent(msgspec.Struct, kw_only=True, frozen=True):
    """Payload of a `kv.change` event.

    Attributes:
        watch: which watch it is for.
        kind: `put`, `del`; or `lost`: changes up to this revision were too many to keep. List the keys again.
        key: which key; "" for `lost`.
        revision: of the change; of the last lost one for `lost`.
    """

    watch: int
    kind: str
    key: str
    revision: int

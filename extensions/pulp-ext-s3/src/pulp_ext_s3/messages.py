"""What cells send and get: MessagePack maps, fields in the order of the wire (spec/capabilities §19)."""

from __future__ import annotations

import struct

import msgspec


def int64(value: int) -> msgspec.Raw:
    """Return `value` as the contract writes a signed integer: nine bytes, whatever it is."""
    return msgspec.Raw(struct.pack(">Bq", 0xD3, value))


class Key(msgspec.Struct, frozen=True):
    """One object."""

    key: str = ""


class Put(msgspec.Struct, frozen=True):
    """An object's bytes."""

    key: str = ""
    body: bytes = b""


class PutSized(msgspec.Struct, frozen=True):
    """An object's bytes, with what they are.

    Attributes:
        key: the object.
        body: its bytes.
        content_length: how many there are; 0 leaves it to `body`.
        content_type: such as `image/png`; "" leaves it to the store.
    """

    key: str = ""
    body: bytes = b""
    content_length: int = 0
    content_type: str = ""


class Copy(msgspec.Struct, frozen=True):
    """From one key to another."""

    src_key: str = ""
    dst_key: str = ""


class List(msgspec.Struct, frozen=True):
    """Which keys, and how many.

    Attributes:
        prefix: what they begin with.
        continuation_token: `next_continuation_token` of the page before; "" for the first.
        max_keys: 1..1,000 in one page; 0 is 1,000.
    """

    prefix: str = ""
    continuation_token: str = ""
    max_keys: int = 0


class Presign(msgspec.Struct, frozen=True):
    """An object, and for how long.

    Attributes:
        key: the object.
        ttl_sec: 1..604,800 seconds; 0 is 900.
    """

    key: str = ""
    ttl_sec: int = 0


class MultipartInit(msgspec.Struct, frozen=True):
    """The object that an upload in parts will make."""

    key: str = ""
    content_type: str = ""


class MultipartPart(msgspec.Struct, frozen=True):
    """One part of an upload.

    Attributes:
        key: the object.
        upload_id: of `s3_put_multipart_init`.
        part_number: 1..10,000; parts are put together in this order.
        data: its bytes.
    """

    key: str = ""
    upload_id: str = ""
    part_number: int = 0
    data: bytes = b""


class PartDone(msgspec.Struct, frozen=True):
    """A part that has been uploaded."""

    part_number: int = 0
    etag: str = ""


class MultipartComplete(msgspec.Struct, frozen=True):
    """The parts that make the object."""

    key: str = ""
    upload_id: str = ""
    parts: list[PartDone] = []


class MultipartAbort(msgspec.Struct, frozen=True):
    """An upload that is given up."""

    key: str = ""
    upload_id: str = ""


class Object(msgspec.Struct, frozen=True):
    """An object with its bytes.

    Attributes:
        body: the bytes.
        content_type: as it was stored.
        content_length: how many bytes, int64.
        etag: the store's word for this version, in quotes.
    """

    body: bytes
    content_type: str
    content_length: msgspec.Raw
    etag: str


class Head(msgspec.Struct, frozen=True):
    """An object without its bytes; both int64."""

    size: msgspec.Raw
    last_modified_unix: msgspec.Raw


class Entry(msgspec.Struct, frozen=True):
    """An object in a list; the numbers are int64."""

    key: str
    size: msgspec.Raw
    last_modified_unix: msgspec.Raw


class Page(msgspec.Struct, frozen=True):
    """One page of a list."""

    entries: list[Entry]
    next_continuation_token: str
    is_truncated: bool


class Url(msgspec.Struct, frozen=True):
    """An address that works without credentials, for a while."""

    url: str


class Upload(msgspec.Struct, frozen=True):
    """An upload in parts."""

    upload_id: str


class Part(msgspec.Struct, frozen=True):
    """What the store calls a part, in quotes."""

    etag: str

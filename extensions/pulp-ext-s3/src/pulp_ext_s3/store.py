"""The host functions of `storage.s3` (spec/capabilities §19)."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from typing import Any, Final

from pulp_runtime.ext import Capability, CellRef, Errno, ExtensionError, Guest, HostError, SetupEnv, host_function

from pulp_ext_s3.bucket import Bucket, failed
from pulp_ext_s3.messages import (
    Copy,
    Entry,
    Head,
    Key,
    List,
    MultipartAbort,
    MultipartComplete,
    MultipartInit,
    MultipartPart,
    Object,
    Page,
    Part,
    Presign,
    Put,
    PutSized,
    Upload,
    Url,
    int64,
)
from pulp_ext_s3.settings import CellSettings, read_settings
from pulp_ext_s3.transport import MOST_BYTES

NAME: Final = "storage.s3"
KEY_BYTES: Final = 1_024
"""Longest key, the cell's prefix included: what S3 allows."""
PAGE_KEYS: Final = 1_000
TTL_SECONDS: Final = 900
MOST_TTL_SECONDS: Final = 604_800
"""A signature is good for seven days at most."""
PARTS: Final = 10_000
WORD_CHARACTERS: Final = 1_024
"""Longest upload id, etag or continuation token."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_TYPE: Final = re.compile(r"[!-~][ -~]{0,254}")


class Store:
    """Objects of one bucket.

    Args:
        environment: where the operator's variables are.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment: Final = environment
        self._bucket: Bucket | None = None
        self._isolate = False
        self._names: Mapping[str, str] = {}
        self._prefixes: Final[dict[str, str]] = {}
        self._swapped: Final[dict[str, str | None]] = {}
        self._lock: Final = threading.Lock()

    # Hooks ------------------------------------------------------------------------------------------------------

    def setup(self, env: SetupEnv) -> None:
        """Read the operator's settings. What is missing does not stop the host: calls are answered 10."""
        settings = read_settings(env.config, self._environment)
        if isinstance(settings, list):
            env.logger.warning("storage.s3 has no bucket; calls are answered 10", missing=settings)
            return
        self._isolate, self._names = settings.isolate, env.storage_namespaces
        self._bucket = Bucket(settings)

    def setup_cell(self, cell: CellRef) -> None:
        """Read the cell's prefix."""
        prefix = cell.settings(NAME, CellSettings).prefix
        if prefix and not _is_key(prefix.rstrip("/")):
            raise ExtensionError(f'{cell.manifest}: [settings."{NAME}"]: prefix: no "." or ".." between slashes')
        own = f"{self._names.get(cell.id, cell.name)}/" if self._isolate else ""
        with self._lock:
            self._prefixes[cell.id] = own + prefix

    def teardown_cell(self, cell_id: str) -> None:
        """Forget the cell's prefix."""
        with self._lock:
            self._prefixes.pop(cell_id, None)

    def swap_begin(self, cell_id: str) -> None:
        """Keep what the cell has while another version of it is loaded."""
        with self._lock:
            self._swapped[cell_id] = self._prefixes.get(cell_id)

    def swap_end(self, cell_id: str, adopted: bool) -> None:
        """Give the cell back what it had if the other version does not run."""
        with self._lock:
            before = self._swapped.pop(cell_id, None)
            if not adopted and before is not None:
                self._prefixes[cell_id] = before

    def teardown(self) -> None:
        """Close connections."""
        bucket, self._bucket = self._bucket, None
        if bucket is not None:
            bucket.close()

    # Objects ----------------------------------------------------------------------------------------------------

    @host_function(blocking=True)
    def s3_put(self, guest: Guest, put: Put) -> None:
        """Store bytes under a key, in place of what is there."""
        self._put(guest, "s3_put", put.key, put.body)

    @host_function(blocking=True)
    def s3_put_sized(self, guest: Guest, put: PutSized) -> None:
        """Store bytes under a key and say what they are."""
        if put.content_length not in (0, len(put.body)):
            raise HostError(Errno.EMPTY, "content_length is not the length of body")
        self._put(guest, "s3_put_sized", put.key, put.body, **_typed(put.content_type))

    def _put(self, guest: Guest, function: str, key: str, body: bytes, **about: str) -> None:
        place = self._place(guest, key)
        _fits(guest, function, body)
        with self._open().asked_by(guest, function) as client:
            client.put_object(**place, Body=body, **about)

    @host_function(blocking=True)
    def s3_get(self, guest: Guest, get: Key) -> Object:
        """Deliver an object."""
        place = self._place(guest, get.key)
        with self._open().asked_by(guest, "s3_get") as client:
            found = client.get_object(**place)
            body = found["Body"].read()
        return Object(body, found.get("ContentType", ""), int64(len(body)), found.get("ETag", ""))

    @host_function(blocking=True)
    def s3_head(self, guest: Guest, head: Key) -> Head:
        """Deliver an object's size and age, without its bytes."""
        place = self._place(guest, head.key)
        with self._open().asked_by(guest, "s3_head") as client:
            found = client.head_object(**place)
        return Head(int64(found["ContentLength"]), int64(_unix(found)))

    @host_function(blocking=True)
    def s3_delete(self, guest: Guest, delete: Key) -> None:
        """Delete an object; 0 also when there is none."""
        place = self._place(guest, delete.key)
        with self._open().asked_by(guest, "s3_delete") as client:
            client.delete_object(**place)

    @host_function(blocking=True)
    def s3_copy(self, guest: Guest, copy: Copy) -> None:
        """Copy an object inside the store."""
        source, place = self._place(guest, copy.src_key), self._place(guest, copy.dst_key)
        with self._open().asked_by(guest, "s3_copy") as client:
            client.copy_object(**place, CopySource=source)

    @host_function(blocking=True)
    def s3_list(self, guest: Guest, query: List) -> Page:
        """Deliver one page of the keys that begin with a prefix, in the order of their bytes."""
        if not 0 <= query.max_keys <= PAGE_KEYS:
            raise HostError(Errno.EMPTY, f"max_keys is not 0..{PAGE_KEYS}")
        mine = self._prefix(guest.cell)
        if _CONTROL.search(query.prefix) or len((mine + query.prefix).encode()) > KEY_BYTES:
            raise HostError(Errno.EMPTY, "prefix")
        about = {"ContinuationToken": _word(query.continuation_token)} if query.continuation_token else {}
        bucket = self._open()
        with bucket.asked_by(guest, "s3_list") as client:
            found = client.list_objects_v2(
                Bucket=bucket.name, Prefix=mine + query.prefix, MaxKeys=query.max_keys or PAGE_KEYS, **about
            )
        entries = [
            Entry(one["Key"].removeprefix(mine), int64(one["Size"]), int64(_unix(one)))
            for one in found.get("Contents", ())
        ]
        return Page(entries, found.get("NextContinuationToken", ""), bool(found.get("IsTruncated")))

    # Addresses --------------------------------------------------------------------------------------------------

    @host_function(blocking=True)
    def s3_presign(self, guest: Guest, presign: Presign) -> Url:
        """Deliver an address at which anybody can get the object for a while."""
        return self._presigned(guest, "s3_presign", "get_object", presign)

    @host_function(blocking=True)
    def s3_presign_put(self, guest: Guest, presign: Presign) -> Url:
        """Deliver an address at which anybody can store the object for a while."""
        return self._presigned(guest, "s3_presign_put", "put_object", presign)

    def _presigned(self, guest: Guest, function: str, operation: str, presign: Presign) -> Url:
        place = self._place(guest, presign.key)
        if not 0 <= presign.ttl_sec <= MOST_TTL_SECONDS:
            raise HostError(Errno.EMPTY, f"ttl_sec is not 0..{MOST_TTL_SECONDS}")
        seconds = presign.ttl_sec or TTL_SECONDS
        with self._open().asked_by(guest, function) as client:
            return Url(client.generate_presigned_url(operation, Params=place, ExpiresIn=seconds))

    # Uploads in parts -------------------------------------------------------------------------------------------

    @host_function(blocking=True)
    def s3_put_multipart_init(self, guest: Guest, init: MultipartInit) -> Upload:
        """Begin an upload in parts."""
        place = self._place(guest, init.key)
        about = _typed(init.content_type)
        with self._open().asked_by(guest, "s3_put_multipart_init") as client:
            return Upload(client.create_multipart_upload(**place, **about)["UploadId"])

    @host_function(blocking=True)
    def s3_put_multipart_part(self, guest: Guest, part: MultipartPart) -> Part:
        """Upload one part; all but the last have at least 5 MiB at most stores."""
        place, number = self._upload(guest, part.key, part.upload_id), _number(part.part_number)
        _fits(guest, "s3_put_multipart_part", part.data)
        with self._open().asked_by(guest, "s3_put_multipart_part") as client:
            return Part(client.upload_part(**place, PartNumber=number, Body=part.data).get("ETag", ""))

    @host_function(blocking=True)
    def s3_put_multipart_complete(self, guest: Guest, complete: MultipartComplete) -> None:
        """Make the object of its parts."""
        place = self._upload(guest, complete.key, complete.upload_id)
        if not 1 <= len(complete.parts) <= PARTS:
            raise HostError(Errno.EMPTY, f"not 1..{PARTS} parts")
        parts = [{"PartNumber": _number(part.part_number), "ETag": _word(part.etag)} for part in complete.parts]
        with self._open().asked_by(guest, "s3_put_multipart_complete") as client:
            client.complete_multipart_upload(**place, MultipartUpload={"Parts": parts})

    @host_function(blocking=True)
    def s3_put_multipart_abort(self, guest: Guest, abort: MultipartAbort) -> None:
        """Give an upload up and drop its parts."""
        place = self._upload(guest, abort.key, abort.upload_id)
        with self._open().asked_by(guest, "s3_put_multipart_abort") as client:
            client.abort_multipart_upload(**place)

    # What all of them need --------------------------------------------------------------------------------------

    def _open(self) -> Bucket:
        if self._bucket is None:
            raise HostError(Errno.UNAVAILABLE, "S3_… is not set")
        return self._bucket

    def _prefix(self, cell: CellRef) -> str:
        try:
            return self._prefixes[cell.id]
        except KeyError:
            raise HostError(Errno.UNAVAILABLE, "the cell is closed") from None

    def _place(self, guest: Guest, key: str) -> dict[str, str]:
        """Return where `key` is; answer 1 for one that the store, or a client on the way, could take for another."""
        whole = self._prefix(guest.cell) + key
        if not _is_key(key) or len(whole.encode()) > KEY_BYTES:
            raise HostError(Errno.EMPTY, "key")
        return {"Bucket": self._open().name, "Key": whole}

    def _upload(self, guest: Guest, key: str, upload_id: str) -> dict[str, str]:
        return {**self._place(guest, key), "UploadId": _word(upload_id)}


def _is_key(key: str) -> bool:
    # "a/../b" is a key of its own to the store and "b" to whoever tidies an address.
    return bool(key) and not _CONTROL.search(key) and not {".", ".."} & set(key.split("/"))


def _word(word: str) -> str:
    if not 1 <= len(word) <= WORD_CHARACTERS or _CONTROL.search(word):
        raise HostError(Errno.EMPTY, "an upload id, etag or token is missing or too long")
    return word


def _number(number: int) -> int:
    if not 1 <= number <= PARTS:
        raise HostError(Errno.EMPTY, f"part_number is not 1..{PARTS}")
    return number


def _typed(content_type: str) -> dict[str, str]:
    if not content_type:
        return {}
    if not _TYPE.fullmatch(content_type):
        raise HostError(Errno.EMPTY, "content_type")
    return {"ContentType": content_type}


def _fits(guest: Guest, function: str, body: bytes) -> None:
    if len(body) > MOST_BYTES:
        raise failed(guest.cell, function, f"the body has more than {MOST_BYTES:,} bytes; upload it in parts")


def _unix(found: Mapping[str, Any]) -> int:
    moment = found.get("LastModified")
    return 0 if moment is None else int(moment.timestamp())


def capability() -> Capability:
    """Return the capability; the entry point."""
    return Capability.of(NAME, Store(), provider="pulp_ext_s3")

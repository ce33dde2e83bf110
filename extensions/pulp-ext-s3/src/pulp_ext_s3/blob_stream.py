"""Reading and writing objects of an S3 store part by part: at most a part of each is in memory."""

from __future__ import annotations

import errno
import threading
from collections import OrderedDict
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from pulp_runtime.ext.blob import OBJECT_BYTES, Caller, Damaged, Info, Reader, Writer

from pulp_ext_s3.blob_digest import OWN_SHA256, PART, PARTED, Digest, Hashing

if TYPE_CHECKING:
    from pulp_ext_s3.blob import S3Bucket

MEMORY_BYTES: Final = 64 * 1024 * 1024
"""Most that a bucket keeps in memory of parts that were read."""
MOST_WRITERS: Final = 32
"""Most objects of one bucket that are being written at once; each has up to a part in memory."""
GOODBYE: Final = Caller(seconds_left=lambda: 5.0)
"""Whose time it is when an upload is given up."""


class Fetched:
    """Parts that were read lately, and how many are being written. Safe from any thread."""

    def __init__(self) -> None:
        self._kept: Final[OrderedDict[tuple[str, str, int], bytes]] = OrderedDict()
        self._size = 0
        self._lock: Final = threading.Lock()
        self._writers = 0

    def get(self, key: tuple[str, str, int]) -> bytes | None:
        """Return a part that is kept."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def keep(self, key: tuple[str, str, int], part: bytes) -> None:
        """Keep a part for a while."""
        with self._lock:
            if key not in self._kept:
                self._kept[key] = part
                self._size += len(part)
            while self._size > MEMORY_BYTES:
                self._size -= len(self._kept.popitem(last=False)[1])

    def write(self, by: int) -> None:
        """Note that a writer begins (1) or ends (-1).

        Raises:
            OSError: `EMFILE` there are 32.
        """
        with self._lock:
            if by > 0 and self._writers >= MOST_WRITERS:
                raise OSError(errno.EMFILE, f"{MOST_WRITERS} objects are being written; close one")
            self._writers += by


class S3Reader(Reader):
    """An object, as it was when it was opened; see `Reader`."""

    def __init__(self, bucket: S3Bucket, info: Info, digest: Digest | None) -> None:
        self.info = info
        self._bucket: Final = bucket
        self._digest: Final = digest

    def read_at(self, caller: Caller, offset: int, into: memoryview) -> int:
        """See `Reader.read_at`."""
        done = 0
        while done < len(into) and offset < self.info.size:
            number, inside = divmod(offset, PART)
            try:
                piece = memoryview(self._part(caller, number))[inside : inside + len(into) - done]
            except OSError:
                if done:
                    return done
                raise
            into[done : done + len(piece)] = piece
            done += len(piece)
            offset += len(piece)
        return done

    def _part(self, caller: Caller, number: int) -> bytes:
        key = self.info.name, str(self.info.version), number
        found = self._bucket.fetched.get(key)
        if found is not None:
            return found
        first = number * PART
        last = min(first + PART, self.info.size) - 1
        try:
            with self._bucket.asking(caller) as client:
                answer = client.get_object(
                    **self._bucket.place(self.info.name), Range=f"bytes={first}-{last}", IfMatch=self.info.version
                )
        except FileNotFoundError:
            raise OSError(errno.ESTALE, "the object has been removed meanwhile") from None
        part = bytes(answer["Body"].read())
        if len(part) != last - first + 1:
            raise Damaged(f"the store gave {len(part)} bytes for {last - first + 1} of {self.info.name}")
        if self._digest is not None and sha256(part).digest() != self._digest.of(number):
            raise Damaged(f"bytes {first} to {last} of {self.info.name} are not its own")
        self._bucket.fetched.keep(key, part)
        return part

    def close(self) -> None:
        """See `Reader.close`."""


class S3Writer(Writer):
    """An object that is being put: in one request, or from 8 MiB on in parts; see `Writer`.

    Args:
        bucket: where.
        name: of the object.
        said: what the request that makes it says about it.
        condition: what must hold in the end.
    """

    def __init__(self, bucket: S3Bucket, name: str, said: dict[str, Any], condition: dict[str, str]) -> None:
        self.size = 0
        self._bucket: Final = bucket
        self._name: Final = name
        self._said: Final = said
        self._condition: Final = condition
        self._buffer: Final = bytearray()
        self._hashing: Final = Hashing()
        self._upload = ""
        self._parts: Final[list[dict[str, Any]]] = []
        self._open = True
        bucket.fetched.write(1)

    def write_at(self, caller: Caller, offset: int, data: memoryview) -> int:
        """See `Writer.write_at`; bytes come in order."""
        if offset != self.size:
            raise OSError(errno.ENOTSUP, "an object at S3 is written from its beginning to its end")
        if offset + len(data) > OBJECT_BYTES:
            raise OSError(errno.EFBIG, f"an object has at most {OBJECT_BYTES} bytes")
        if len(self._buffer) == PART and data:
            self._send(caller)
        piece = data[: PART - len(self._buffer)]
        self._buffer.extend(piece)
        self.size += len(piece)
        return len(piece)

    def _send(self, caller: Caller) -> None:
        """Send what is in memory as the next part."""
        place = self._bucket.place(self._name)
        if not self._upload:
            said = {**self._said, "Metadata": {**self._said.get("Metadata", {}), PARTED: "1"}}
            with self._bucket.asking(caller) as client:
                self._upload = client.create_multipart_upload(**place, **said)["UploadId"]
        number = len(self._parts) + 1
        with self._bucket.asking(caller) as client:
            sent = client.upload_part(**place, UploadId=self._upload, PartNumber=number, Body=bytes(self._buffer))
        self._parts.append({"PartNumber": number, "ETag": sent.get("ETag", "")})
        self._hashing.part(self._buffer)
        self._buffer.clear()

    def read_at(self, _caller: Caller, _offset: int, _into: memoryview) -> int:
        """See `Writer.read_at`; not here."""
        raise OSError(errno.ENOTSUP, "an object at S3 cannot be read while it is written")

    def truncate(self, _caller: Caller, size: int) -> None:
        """See `Writer.truncate`; not here."""
        if size != self.size:
            raise OSError(errno.ENOTSUP, "an object at S3 is written from its beginning to its end")

    def commit(self, caller: Caller) -> Info:
        """See `Writer.commit`."""
        try:
            if self._upload:
                self._complete(caller)
            else:
                self._put(caller)
        finally:
            self.abandon()
        info = self._bucket.find(caller, self._name)
        if info is None:
            raise OSError(errno.ESTALE, "the object has been removed meanwhile")
        return info

    def _put(self, caller: Caller) -> None:
        fields = {**self._said.get("Metadata", {}), OWN_SHA256: sha256(self._buffer).hexdigest()}
        said = {**self._said, "Metadata": fields, **self._condition}
        with self._bucket.asking(caller) as client:
            client.put_object(**self._bucket.place(self._name), Body=bytes(self._buffer), **said)

    def _complete(self, caller: Caller) -> None:
        if self._buffer:
            self._send(caller)
        with self._bucket.asking(caller) as client:
            answer = client.complete_multipart_upload(
                **self._bucket.place(self._name),
                UploadId=self._upload,
                MultipartUpload={"Parts": self._parts},
                **self._condition,
            )
        self._upload = ""
        self._bucket.keep_digest(caller, self._name, self._hashing.done(str(answer.get("ETag", ""))))

    def abandon(self) -> None:
        """See `Writer.abandon`; parts that the store cannot be told to drop are its life-cycle rule's."""
        if not self._open:
            return
        self._open = False
        self._bucket.fetched.write(-1)
        self._buffer.clear()
        if self._upload:
            try:
                with self._bucket.asking(GOODBYE) as client:
                    client.abort_multipart_upload(**self._bucket.place(self._name), UploadId=self._upload)
            except OSError:
                pass  # a run that was ended waits no longer than that

"""The backend `s3` of `cloud.blob`: a bucket of an S3 store as the folder `/beta/blob/<bucket>`.

    object ≤ 8 MiB   one request; its SHA-256 is in its own metadata
    longer           parts of 8 MiB; their digests are in an object beside it, `.pulp-digests/…`, which names its ETag

What other programs put into the bucket is there too; nobody knows its digests, so its bytes are those the store gives.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, Final

import msgspec
from botocore.exceptions import BotoCoreError, ClientError
from pulp_runtime.ext import ExtensionError
from pulp_runtime.ext.blob import (
    TYPE,
    Bucket,
    Caller,
    Info,
    Reader,
    Version,
    Writer,
    changed_fields,
    check_name,
)

from pulp_ext_s3.blob_digest import DIGESTS, OWN_SHA256, PARTED, Digest
from pulp_ext_s3.blob_stream import Fetched, S3Reader, S3Writer
from pulp_ext_s3.bucket import make_client
from pulp_ext_s3.settings import Settings, read_settings
from pulp_ext_s3.transport import TooLong, Transport, Unsent

CALL_SECONDS: Final = 60.0
"""How long one request may take when its caller has no deadline of his own."""
COPY_BYTES: Final = 5 * 1024**3
"""Largest object that S3 copies in one request, and so the largest that can be renamed or described."""
PREFIX: Final = "{namespace}/"

_MISSING: Final = {"NoSuchKey", "NotFound", "NoSuchUpload", "404"}
_OVERTAKEN: Final = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}


class S3Bucket(Bucket):
    """One bucket of the operator's, or the part of it below a prefix; see `Bucket`.

    Args:
        settings: the store and its bucket.
        prefix: what every key begins with; programs do not see it.
    """

    remote = True

    def __init__(self, settings: Settings, prefix: str) -> None:
        self.name: Final = settings.bucket
        self.prefix: Final = prefix
        self.fetched: Final = Fetched()
        self._transport: Final = Transport(settings.endpoint)
        self._client: Final[Any] = make_client(settings, self._transport)

    @contextmanager
    def asking(self, caller: Caller) -> Iterator[Any]:
        """Give out the client for one request of a caller's; what goes wrong is an `OSError`."""
        seconds = min(caller.seconds_left(), CALL_SECONDS)
        try:
            with self._transport.within(seconds):
                yield self._client
        except ClientError as error:
            raise _refused(error.response) from None
        except (TooLong, Unsent, BotoCoreError) as error:
            late = caller.seconds_left() <= 0
            why = type(error).__name__ if isinstance(error, BotoCoreError) else str(error)
            raise OSError(errno.ETIMEDOUT if late else errno.EIO, f"S3: {why}") from None

    def place(self, name: str) -> dict[str, str]:
        """Return where an object is."""
        check_name(name)
        return {"Bucket": self.name, "Key": self.prefix + name}

    # Looking ----------------------------------------------------------------------------------------------------

    def find(self, caller: Caller, name: str) -> Info | None:
        """See `Bucket.find`."""
        return self.known(caller, name)[0]

    def known(self, caller: Caller, name: str) -> tuple[Info | None, Digest | None]:
        """Return what is known of an object, and the digests of its parts."""
        place = self.place(name)
        try:
            with self.asking(caller) as client:
                found = client.head_object(**place)
        except FileNotFoundError:
            return None, None
        said = found.get("Metadata", {})
        etag, size = str(found.get("ETag", "")), int(found.get("ContentLength", 0))
        digest = None
        if PARTED in said:
            digest = self._digest(caller, name, etag, size)
        elif len(said.get(OWN_SHA256, "")) == 64:
            digest = Digest.of_one(etag, size, said[OWN_SHA256])
        modified = found.get("LastModified")
        return (
            Info(
                name,
                size,
                0 if modified is None else int(modified.timestamp()) * 1_000_000_000,
                int.from_bytes(sha256(place["Key"].encode()).digest()[:7], "big"),
                etag,
                digest.whole if digest else b"",
                str(found.get("ContentType", TYPE)),
                {field: value for field, value in said.items() if field.startswith("x-")},
            ),
            digest,
        )

    def _beside(self, name: str) -> dict[str, str]:
        """Return where the digests of an object are."""
        return {"Bucket": self.name, "Key": f"{self.prefix}{DIGESTS}/{sha256(name.encode()).hexdigest()}"}

    def _digest(self, caller: Caller, name: str, etag: str, size: int) -> Digest | None:
        """Return the digests of this very version of an object, None if there are none."""
        try:
            with self.asking(caller) as client:
                data = client.get_object(**self._beside(name))["Body"].read()
            digest = msgspec.msgpack.decode(data, type=Digest)
        except (FileNotFoundError, msgspec.ValidationError, msgspec.DecodeError):
            return None
        return digest if (digest.etag, digest.size) == (etag, size) and digest.fits else None

    def keep_digest(self, caller: Caller, name: str, digest: Digest) -> None:
        """Put the digests of an object beside it."""
        with self.asking(caller) as client:
            client.put_object(**self._beside(name), Body=msgspec.msgpack.encode(digest))

    def has_folder(self, caller: Caller, folder: str) -> bool:
        """See `Bucket.has_folder`."""
        check_name(folder)
        with self.asking(caller) as client:
            found = client.list_objects_v2(Bucket=self.name, Prefix=f"{self.prefix}{folder}/", MaxKeys=1)
        return bool(found.get("KeyCount", 0))

    def names(self, caller: Caller, folder: str, after: str, limit: int) -> list[tuple[str, bool]]:
        """See `Bucket.names`; keys that no program can name are left out."""
        prefix = f"{self.prefix}{folder}/" if folder else self.prefix
        last = prefix + after + ("\U0010ffff" if after.endswith("/") else "") if after else ""
        asked: dict[str, Any] = {"Bucket": self.name, "Prefix": prefix, "Delimiter": "/", "MaxKeys": min(limit, 1000)}
        if last:
            asked["StartAfter"] = last
        found: list[tuple[str, bool]] = []
        while True:
            with self.asking(caller) as client:
                page = client.list_objects_v2(**asked)
            keys = [one["Key"] for one in page.get("Contents", ())]
            keys += [one["Prefix"] for one in page.get("CommonPrefixes", ())]
            for key in sorted(keys, key=str.encode):
                name = key[len(prefix) :]
                if name.strip("/") and not name.startswith((".", "/")):
                    found.append((name.removesuffix("/"), name.endswith("/")))
            if not page.get("IsTruncated") or len(found) >= limit:
                return found[:limit]
            asked["ContinuationToken"] = page["NextContinuationToken"]

    # Objects ----------------------------------------------------------------------------------------------------

    def read(self, caller: Caller, name: str) -> Reader | None:
        """See `Bucket.read`. When the object is replaced meanwhile, reading what is not in memory yet is `ESTALE`."""
        info, digest = self.known(caller, name)
        return None if info is None else S3Reader(self, info, digest)

    def write(self, caller: Caller, name: str, *, exclusive: bool = False, base: Version | None = None) -> Writer:
        """See `Bucket.write`. Bytes come in order; nothing is reserved, who is overtaken hears of it at the end."""
        there = self.find(caller, name)
        if exclusive and there is not None:
            raise FileExistsError(errno.EEXIST, "there is an object")
        condition = {"IfNoneMatch": "*"} if exclusive else {"IfMatch": str(base)} if base is not None else {}
        said = {"ContentType": there.content_type, "Metadata": dict(there.fields)} if there else {"ContentType": TYPE}
        return S3Writer(self, name, said, condition)

    def remove(self, caller: Caller, name: str) -> None:
        """See `Bucket.remove`."""
        info, digest = self.known(caller, name)
        if info is None:
            raise FileNotFoundError(errno.ENOENT, "no such object")
        with self.asking(caller) as client:
            client.delete_object(**self.place(name))
        if digest is not None and digest.parted:
            with self.asking(caller) as client:
                client.delete_object(**self._beside(name))

    def rename(self, caller: Caller, old: str, new: str) -> None:
        """See `Bucket.rename`. It is copied, then removed: for a moment both names are there."""
        check_name(new)
        if old == new:
            if self.find(caller, old) is None:
                raise FileNotFoundError(errno.ENOENT, "no such object")
            return
        self._copy(caller, old, new, None, {})
        self.remove(caller, old)

    def describe(self, caller: Caller, name: str, content_type: str | None, fields: Mapping[str, str | None]) -> None:
        """See `Bucket.describe`; the store copies the object onto itself."""
        self._copy(caller, name, name, content_type, fields)

    def _copy(
        self, caller: Caller, old: str, new: str, content_type: str | None, fields: Mapping[str, str | None]
    ) -> None:
        info, digest = self.known(caller, old)
        if info is None:
            raise FileNotFoundError(errno.ENOENT, "no such object")
        if info.size > COPY_BYTES:
            raise OSError(errno.ENOTSUP, f"S3 copies at most {COPY_BYTES} bytes; put the object again")
        said = changed_fields(info.fields, fields)
        if digest is not None:
            said |= digest.metadata()
        with self.asking(caller) as client:
            answer = client.copy_object(
                **self.place(new),
                CopySource=self.place(old),
                CopySourceIfMatch=info.version,
                MetadataDirective="REPLACE",
                ContentType=content_type or info.content_type,
                Metadata=said,
            )
        if digest is not None and digest.parted:
            self.keep_digest(caller, new, msgspec.structs.replace(digest, etag=answer["CopyObjectResult"]["ETag"]))

    def close(self) -> None:
        """See `Bucket.close`."""
        self._transport.close()


def _refused(response: Mapping[str, Any]) -> OSError:
    """Return what the store's answer means. Its message is left out: it may quote credentials."""
    word = str(response.get("Error", {}).get("Code", ""))[:64]
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if word in _MISSING:
        return FileNotFoundError(errno.ENOENT, "no such object")
    if word in _OVERTAKEN:
        return OSError(errno.ESTALE, "somebody else has put or removed the object meanwhile")
    if word == "NotImplemented" or status == 501:
        return OSError(errno.ENOTSUP, "the store cannot do that")
    return OSError(errno.EIO, f"S3: {word} ({status})")


def connect(bucket: str, namespace: str, options: Mapping[str, Any]) -> Bucket:
    """Return a bucket; the entry point `s3` of `pulp.blob_backends`.

    Args:
        bucket: its name in manifests, and at the store if `options` have none.
        namespace: whose it is.
        options: as for `storage.s3` but `isolate`, and `prefix`, what every key begins with: "{namespace}/" unless
            it says otherwise. Without `{namespace}` in it all namespaces share the bucket.

    Raises:
        ExtensionError: naming what is missing or wrong; no value is in the message.
    """
    given = dict(options)
    prefix = given.pop("prefix", PREFIX)
    if not isinstance(prefix, str) or "isolate" in given:
        raise ExtensionError(f"bucket {bucket}: options are those of storage.s3 without isolate, and prefix, a text")
    given.setdefault("bucket", bucket)
    settings = read_settings(given, os.environ)
    if isinstance(settings, list):
        raise ExtensionError(f"bucket {bucket}: {', '.join(settings)} is not set, in the options or the environment")
    prefix = prefix.replace("{namespace}", namespace)
    if prefix and (prefix.startswith("/") or "//" in prefix or {".", ".."} & set(prefix.split("/"))):
        raise ExtensionError(f"bucket {bucket}: prefix is written like photos/{{namespace}}/")
    return S3Bucket(settings, prefix)

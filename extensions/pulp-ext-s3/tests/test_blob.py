"""The backend `s3` of `cloud.blob`, against a real S3 server: what the embedded store does, as far as S3 can."""

from __future__ import annotations

import errno
import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pulp_runtime.ext import ExtensionError
from pulp_runtime.ext.blob import Bucket, Caller, Damaged

from conftest import ACCESS_KEY, BUCKET, SECRET_KEY, settings
from pulp_ext_s3 import blob_stream
from pulp_ext_s3.blob import S3Bucket, connect
from pulp_ext_s3.blob_digest import PART

ME = Caller()
LARGE = 2 * PART + 12_345


@pytest.fixture
def bucket(endpoint: str) -> Iterator[S3Bucket]:
    made = make(endpoint)
    yield made
    made.close()


def make(endpoint: str, namespace: str = "shop", **more: Any) -> S3Bucket:
    made = connect("photos", namespace, settings(endpoint, **more))
    assert isinstance(made, S3Bucket)
    return made


@contextmanager
def fails(code: int) -> Iterator[None]:
    with pytest.raises(OSError) as caught:  # noqa: PT011  # the number is looked at
        yield
    assert errno.errorcode[caught.value.errno] == errno.errorcode[code]


def put(bucket: Bucket, name: str, data: bytes, step: int = 1 << 20) -> None:
    writer = bucket.write(ME, name)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[writer.write_at(ME, writer.size, rest[:step]) :]
        writer.commit(ME)
    finally:
        writer.abandon()


def get(bucket: Bucket, name: str) -> bytes:
    reader = bucket.read(ME, name)
    assert reader is not None
    into = memoryview(bytearray(reader.info.size + 1))
    assert reader.read_at(ME, 0, into) == reader.info.size
    return bytes(into[:-1])


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@contextmanager
def directly(bucket: S3Bucket) -> Iterator[Any]:
    """Use the store as another program would."""
    with bucket.asking(ME) as client:
        yield client


def keys(bucket: S3Bucket) -> list[str]:
    with directly(bucket) as client:
        return [one["Key"] for one in client.list_objects_v2(Bucket=BUCKET).get("Contents", ())]


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, LARGE])
def test_an_object_is_read_back_as_it_was_put_and_its_hash_is_known(bucket: S3Bucket, size: int) -> None:
    data = noise(size)
    put(bucket, "2026/cat.jpg", data)
    info = bucket.find(ME, "2026/cat.jpg")

    assert info is not None
    assert (info.size, info.sha256) == (size, hashlib.sha256(data).digest())
    assert info.modified_ns > 0
    assert get(bucket, "2026/cat.jpg") == data


@pytest.mark.slow
def test_ranges_cross_parts_and_are_verified(bucket: S3Bucket) -> None:
    data = noise(LARGE)
    put(bucket, "a", data)
    reader = bucket.read(ME, "a")
    assert reader is not None
    for offset, size in ((PART - 2, 4), (2 * PART, 100), (LARGE - 1, 10), (LARGE, 10)):
        into = memoryview(bytearray(size))
        assert bytes(into[: reader.read_at(ME, offset, into)]) == data[offset : offset + size]


@pytest.mark.slow
def test_memory_is_bounded_while_an_object_is_written(bucket: S3Bucket) -> None:
    writer = bucket.write(ME, "a")
    piece = memoryview(bytes(1 << 20))
    for _ in range(40):
        rest = piece
        while rest:
            rest = rest[writer.write_at(ME, writer.size, rest) :]
        assert len(writer._buffer) <= PART  # type: ignore[attr-defined]
    writer.commit(ME)

    assert bucket.find(ME, "a").size == 40 << 20  # type: ignore[union-attr]


@pytest.mark.slow
def test_an_abandoned_object_is_not_there_and_leaves_no_parts(bucket: S3Bucket) -> None:
    writer = bucket.write(ME, "a")
    for _ in range(10):
        writer.write_at(ME, writer.size, memoryview(bytes(1 << 20)))
    writer.abandon()
    writer.abandon()

    assert bucket.find(ME, "a") is None
    with directly(bucket) as client:
        assert not client.list_multipart_uploads(Bucket=BUCKET).get("Uploads")


@pytest.mark.slow
def test_changed_bytes_at_the_store_are_damage(bucket: S3Bucket) -> None:
    small, large = noise(1000), noise(LARGE)
    put(bucket, "small", small)
    put(bucket, "large", large)
    for name, data in (("small", small), ("large", large)):
        with directly(bucket) as client:
            head = client.head_object(Bucket=BUCKET, Key=f"shop/{name}")
            client.put_object(
                Bucket=BUCKET, Key=f"shop/{name}", Body=bytes([data[0] ^ 1]) + data[1:], Metadata=head["Metadata"]
            )
    with pytest.raises(Damaged):
        get(bucket, "small")
    # The digests of the large one name another version: nothing is known of this one.
    assert bucket.find(ME, "large").sha256 == b""  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_part_that_is_not_what_was_sent_is_damage(bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    put(bucket, "large", noise(LARGE))
    info, digest = bucket.known(ME, "large")
    assert info is not None
    assert digest is not None
    reader = blob_stream.S3Reader(bucket, info, digest)
    monkeypatch.setattr(type(digest), "of", lambda _self, _number: bytes(32))
    with pytest.raises(Damaged):
        reader.read_at(ME, 0, memoryview(bytearray(10)))


def test_a_reader_of_an_object_that_is_replaced_is_stale(bucket: S3Bucket) -> None:
    put(bucket, "a", b"first")
    reader = bucket.read(ME, "a")
    put(bucket, "a", b"second")
    assert reader is not None
    with fails(errno.ESTALE):
        reader.read_at(ME, 0, memoryview(bytearray(10)))
    gone = bucket.read(ME, "a")
    bucket.remove(ME, "a")
    assert gone is not None
    with fails(errno.ESTALE):
        gone.read_at(ME, 0, memoryview(bytearray(10)))


def test_bytes_come_in_order(bucket: S3Bucket) -> None:
    put(bucket, "a", b"x")
    writer = bucket.write(ME, "a")
    writer.truncate(ME, 0)
    writer.write_at(ME, 0, memoryview(b"abc"))
    for act in (
        lambda: writer.write_at(ME, 0, memoryview(b"x")),
        lambda: writer.truncate(ME, 1),
        lambda: writer.read_at(ME, 0, memoryview(bytearray(1))),
    ):
        with fails(errno.ENOTSUP):
            act()
    writer.commit(ME)
    assert get(bucket, "a") == b"abc"


@pytest.mark.slow
def test_what_is_said_about_an_object_stays_when_it_is_put_again_renamed_or_described(bucket: S3Bucket) -> None:
    for name, data in (("small", b"x"), ("large", noise(LARGE))):
        put(bucket, name, data)
        bucket.describe(ME, name, "image/png", {"x-owner": "ann", "x-b": "c"})
        bucket.describe(ME, name, None, {"x-b": None})
        put(bucket, name, data)
        bucket.rename(ME, name, "new/name")
        info = bucket.find(ME, "new/name")

        assert info is not None
        assert (info.content_type, dict(info.fields)) == ("image/png", {"x-owner": "ann"})
        assert info.sha256 == hashlib.sha256(data).digest()
        assert get(bucket, "new/name") == data
        assert bucket.find(ME, name) is None
    assert len([key for key in keys(bucket) if ".pulp-digests" in key]) == 1
    bucket.remove(ME, "new/name")
    assert keys(bucket) == []


def test_names_are_listed_in_the_order_of_bytes_page_by_page(bucket: S3Bucket) -> None:
    for name in ("a", "a-", "b/1", "b/2", "b0", "c/d/e", "é", "Z"):
        put(bucket, name, b"")
    with directly(bucket) as client:
        for odd in ("shop/.hidden/x", "shop//x", "shop/marker/", "other/x"):
            client.put_object(Bucket=BUCKET, Key=odd, Body=b"")
    everything = bucket.names(ME, "", "", 1000)

    assert everything == [
        ("Z", False),
        ("a", False),
        ("a-", False),
        ("b", True),
        ("b0", False),
        ("c", True),
        ("marker", True),
        ("é", False),
    ]
    assert bucket.names(ME, "c/d", "", 10) == [("e", False)]
    paged, after = [], ""
    while page := bucket.names(ME, "", after, 1):
        paged += page
        after = f"{page[0][0]}/" if page[0][1] else page[0][0]
    assert paged == everything
    assert bucket.has_folder(ME, "c")
    assert not bucket.has_folder(ME, "a")


def test_what_is_not_there_is_missing(bucket: S3Bucket) -> None:
    assert bucket.find(ME, "a") is None
    assert bucket.read(ME, "a") is None
    for act in (
        lambda: bucket.remove(ME, "a"),
        lambda: bucket.rename(ME, "a", "b"),
        lambda: bucket.rename(ME, "a", "a"),
        lambda: bucket.describe(ME, "a", "a/b", {}),
    ):
        with fails(errno.ENOENT):
            act()


def test_a_conditional_put_hears_that_it_was_overtaken(bucket: S3Bucket) -> None:
    first = bucket.write(ME, "a", exclusive=True)
    put(bucket, "a", b"other")
    first.write_at(ME, 0, memoryview(b"mine"))
    with fails(errno.ESTALE):
        first.commit(ME)
    with fails(errno.EEXIST):
        bucket.write(ME, "a", exclusive=True)

    assert get(bucket, "a") == b"other"


def test_namespaces_see_their_own_objects_unless_the_operator_says_otherwise(endpoint: str, bucket: S3Bucket) -> None:
    put(bucket, "a", b"x")
    other = make(endpoint, "other")
    both = make(endpoint, "other", prefix="")

    assert other.names(ME, "", "", 10) == []
    assert both.names(ME, "", "", 10) == [("shop", True)]
    assert get(both, "shop/a") == b"x"
    other.close()
    both.close()


def test_writers_are_bounded(bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_stream, "MOST_WRITERS", 2)
    writers = [bucket.write(ME, f"a{number}") for number in range(2)]
    with fails(errno.EMFILE):
        bucket.write(ME, "b")
    for writer in writers:
        writer.abandon()
    bucket.write(ME, "b").abandon()


def test_a_store_that_does_not_answer_in_time_is_timed_out_and_one_that_is_not_there_an_error() -> None:
    nobody = make("http://127.0.0.1:9")
    with fails(errno.EIO):
        nobody.find(ME, "a")
    with fails(errno.ETIMEDOUT):
        nobody.find(Caller(seconds_left=lambda: 0.0), "a")
    nobody.close()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"isolate": True}, "isolate"),
        ({"prefix": 5}, "prefix"),
        ({"prefix": "../x/"}, "prefix"),
        ({"prefix": "/x"}, "prefix"),
        ({"endpoint": "ftp://x"}, "S3_ENDPOINT"),
        ({"colour": "red"}, "colour"),
        ({"access_key_id": ""}, "S3_ACCESS_KEY_ID is not set"),
    ],
)
def test_options_that_cannot_be_are_refused_without_their_values(
    options: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("S3_ACCESS_KEY_ID", "R2_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ExtensionError, match=says) as caught:
        make(**{"endpoint": "http://localhost:1", **options})
    assert SECRET_KEY not in str(caught.value)
    assert ACCESS_KEY not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["..", "../x", "a/../../x", "/etc/passwd", "", ".pulp-digests/x", "a//b", "a\0b", "a/"]
)
def test_no_name_leads_out_of_the_prefix(bucket: S3Bucket, name: str) -> None:
    with directly(bucket) as client:
        client.put_object(Bucket=BUCKET, Key="canary", Body=b"canary")
    put(bucket, "a", b"x")
    for act in (
        lambda: bucket.write(ME, name),
        lambda: bucket.read(ME, name),
        lambda: bucket.remove(ME, name),
        lambda: bucket.rename(ME, "a", name),
        lambda: bucket.find(ME, name),
    ):
        with fails(errno.EINVAL):
            act()

    assert keys(bucket) == ["canary", "shop/a"]

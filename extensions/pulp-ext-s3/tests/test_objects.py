"""Objects and uploads, against a real server."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from conftest import BUCKET, Caller, request, settings
from pulp_ext_s3.store import MOST_TTL_SECONDS, PAGE_KEYS, PARTS


def test_a_cell_gets_back_what_it_put(s3: Caller) -> None:
    s3.answer("s3_put", key="notes/1", body=b"\x00\xffbytes")

    found = s3.answer("s3_get", key="notes/1")

    assert (found["body"], found["content_length"]) == (b"\x00\xffbytes", 7)
    assert found["etag"].startswith('"')
    assert list(found) == ["body", "content_type", "content_length", "etag"]


def test_lengths_cross_as_integers_of_nine_bytes(s3: Caller) -> None:
    s3.answer("s3_put", key="k", body=b"abc")
    s3.answer("s3_head", key="k")

    address, length = (int.from_bytes(s3.cell.read(at, 4), "little") for at in (8, 12))

    assert s3.cell.read(address, length).startswith(b"\x82\xa4size\xd3\0\0\0\0\0\0\0\x03")


def test_an_object_may_be_empty(s3: Caller) -> None:
    s3.answer("s3_put", key="nothing")

    assert s3.answer("s3_get", key="nothing")["body"] == b""


@pytest.mark.parametrize(
    "key",
    ["a b+c%2f?x=1&y#z", "Zoë/☕", "//double//", "/leading", "trailing/", "...", "a/..b/c", "k" * 1024, "\\x", "~"],
)
def test_a_key_is_stored_as_it_is_written(s3: Caller, key: str) -> None:
    s3.answer("s3_put", key=key, body=b"1")

    assert [entry["key"] for entry in s3.answer("s3_list")["entries"]] == [key]
    assert s3.answer("s3_get", key=key)["body"] == b"1"


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("", id="is empty"),
        pytest.param("k" * 1025, id="is too long"),
        pytest.param("ä" * 513, id="is too long in bytes"),
        pytest.param("..", id="is the folder above"),
        pytest.param("a/../b", id="goes up"),
        pytest.param("./a", id="is a path"),
        pytest.param("a\0b", id="holds NUL"),
        pytest.param("a\r\nX: y", id="holds a line break"),
    ],
)
@pytest.mark.parametrize("function", ["s3_put", "s3_get", "s3_delete", "s3_presign", "s3_put_multipart_init"])
def test_a_key_that_could_be_taken_for_another_is_refused(s3: Caller, function: str, key: str) -> None:
    assert s3.code(function, key=key) == 1


def test_a_sized_put_says_what_the_bytes_are(s3: Caller) -> None:
    s3.answer("s3_put_sized", key="page", body=b"<p>", content_length=3, content_type="text/html; charset=utf-8")

    assert s3.answer("s3_get", key="page")["content_type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"content_length": 4}, id="another length than the body has"),
        pytest.param({"content_length": -1}, id="a negative length"),
        pytest.param({"content_type": "a\r\nX-Amz-Acl: public-read"}, id="a type with a line break"),
        pytest.param({"content_type": "t" * 256}, id="a type without end"),
    ],
)
def test_a_sized_put_is_refused_with(s3: Caller, wrong: dict[str, Any]) -> None:
    assert s3.code("s3_put_sized", key="k", body=b"abc", **wrong) == 1
    assert s3.answer("s3_list")["entries"] == []


def test_head_tells_size_and_age(s3: Caller) -> None:
    s3.answer("s3_put", key="k", body=b"abc")

    found = s3.answer("s3_head", key="k")

    assert found["size"] == 3
    assert abs(found["last_modified_unix"] - time.time()) < 60


@pytest.mark.parametrize("function", ["s3_get", "s3_head"])
def test_an_object_that_is_not_there_is_not_found(s3: Caller, function: str) -> None:
    assert s3.code(function, key="missing") == 6


def test_a_copy_of_nothing_is_not_found(s3: Caller) -> None:
    assert s3.code("s3_copy", src_key="missing", dst_key="k") == 6


def test_a_copy_is_an_object_of_its_own(s3: Caller) -> None:
    s3.answer("s3_put", key="ä b", body=b"1")
    s3.answer("s3_copy", src_key="ä b", dst_key="copy")
    s3.answer("s3_delete", key="ä b")

    assert s3.answer("s3_get", key="copy")["body"] == b"1"


def test_deleting_twice_is_deleting_once(s3: Caller) -> None:
    s3.answer("s3_put", key="k", body=b"1")

    assert [s3.code("s3_delete", key="k"), s3.code("s3_delete", key="k")] == [0, 0]
    assert s3.code("s3_get", key="k") == 6


# Lists --------------------------------------------------------------------------------------------------------------


def test_a_list_comes_in_pages(s3: Caller) -> None:
    for name in "abcde":
        s3.answer("s3_put", key=f"n/{name}", body=b"12")
    s3.answer("s3_put", key="other")

    found, pages, token = [], 0, ""
    while True:
        page = s3.answer("s3_list", prefix="n/", continuation_token=token, max_keys=2)
        found += page["entries"]
        pages += 1
        token = page["next_continuation_token"]
        if not page["is_truncated"]:
            break

    assert [entry["key"] for entry in found] == ["n/a", "n/b", "n/c", "n/d", "n/e"]
    assert {entry["size"] for entry in found} == {2}
    assert (pages, token) == (3, "")


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"max_keys": -1}, id="a negative number of keys"),
        pytest.param({"max_keys": PAGE_KEYS + 1}, id="a page that is too long"),
        pytest.param({"prefix": "p" * 1025}, id="a prefix that no key has"),
        pytest.param({"prefix": "a\n"}, id="a prefix with a line break"),
        pytest.param({"continuation_token": "t" * 1025}, id="a token without end"),
    ],
)
def test_a_list_is_refused_with(s3: Caller, wrong: dict[str, Any]) -> None:
    assert s3.code("s3_list", **wrong) == 1


def test_an_empty_bucket_has_an_empty_list(s3: Caller) -> None:
    assert s3.answer("s3_list") == {"entries": [], "next_continuation_token": "", "is_truncated": False}


# Addresses ----------------------------------------------------------------------------------------------------------


def test_anybody_can_get_a_presigned_object(s3: Caller) -> None:
    s3.answer("s3_put", key="ä/1", body=b"shared")

    url = s3.answer("s3_presign", key="ä/1", ttl_sec=60)["url"]

    assert request("GET", url) == b"shared"
    assert "X-Amz-Expires=60&" in url


def test_anybody_can_put_to_a_presigned_address(s3: Caller) -> None:
    url = s3.answer("s3_presign_put", key="upload")["url"]

    headers = {"Content-Type": "text/plain"}
    with urllib.request.urlopen(urllib.request.Request(url, b"theirs", headers, method="PUT")) as answer:
        assert answer.status == 200
    assert "X-Amz-Expires=900&" in url
    assert s3.answer("s3_get", key="upload")["body"] == b"theirs"


@pytest.mark.parametrize("function", ["s3_presign", "s3_presign_put"])
@pytest.mark.parametrize("ttl", [-1, MOST_TTL_SECONDS + 1, 2**63])
def test_an_address_cannot_last_for_ever(s3: Caller, function: str, ttl: int) -> None:
    assert s3.code(function, key="k", ttl_sec=ttl) == 1


# Uploads in parts ---------------------------------------------------------------------------------------------------


def test_parts_make_an_object_in_the_order_of_their_numbers(s3: Caller) -> None:
    upload = s3.answer("s3_put_multipart_init", key="big", content_type="video/mp4")["upload_id"]
    etags = {
        number: s3.answer("s3_put_multipart_part", key="big", upload_id=upload, part_number=number, data=data)["etag"]
        for number, data in ((2, b"second"), (1, b"first "))
    }
    s3.answer(
        "s3_put_multipart_complete",
        key="big",
        upload_id=upload,
        parts=[{"part_number": number, "etag": etags[number]} for number in (1, 2)],
    )

    found = s3.answer("s3_get", key="big")

    assert (found["body"], found["content_type"]) == (b"first second", "video/mp4")


def test_an_aborted_upload_is_over(s3: Caller) -> None:
    upload = s3.answer("s3_put_multipart_init", key="k")["upload_id"]
    s3.answer("s3_put_multipart_abort", key="k", upload_id=upload)

    assert s3.code("s3_put_multipart_abort", key="k", upload_id=upload) == 6


@pytest.mark.parametrize(
    ("function", "message"),
    [
        pytest.param("s3_put_multipart_part", {"upload_id": "u", "part_number": 0}, id="part 0"),
        pytest.param("s3_put_multipart_part", {"upload_id": "u", "part_number": PARTS + 1}, id="part 10,001"),
        pytest.param("s3_put_multipart_part", {"part_number": 1}, id="a part of no upload"),
        pytest.param("s3_put_multipart_complete", {"upload_id": "u"}, id="no parts"),
        pytest.param(
            "s3_put_multipart_complete", {"upload_id": "u", "parts": [{"part_number": 1}]}, id="a part without etag"
        ),
        pytest.param("s3_put_multipart_abort", {"upload_id": "u\n"}, id="an id with a line break"),
    ],
)
def test_an_upload_is_refused_with(s3: Caller, function: str, message: dict[str, Any]) -> None:
    assert s3.code(function, key="k", **message) == 1


def test_an_upload_has_a_bounded_number_of_parts(s3: Caller) -> None:
    parts = msgspec.msgpack.encode({"key": "k", "upload_id": "u", "parts": [[]] * (PARTS + 1)})
    s3.cell.write(64, parts)

    assert s3.cell.run("s3_put_multipart_complete", 64, len(parts)) == 1


# Whose keys ---------------------------------------------------------------------------------------------------------


def test_a_prefix_of_the_manifest_is_before_every_key_and_in_no_list(
    make: Callable[..., Caller], s3: Caller, endpoint: str
) -> None:
    own = make(settings(endpoint), manifest={"prefix": "orders/"})
    s3.answer("s3_put", key="secret")

    own.answer("s3_put", key="1", body=b"x")
    own.answer("s3_copy", src_key="1", dst_key="2")

    assert [entry["key"] for entry in own.answer("s3_list")["entries"]] == ["1", "2"]
    assert [entry["key"] for entry in own.answer("s3_list", prefix="2")["entries"]] == ["2"]
    assert own.code("s3_get", key="secret") == 6
    assert f"/{BUCKET}/orders/1?" in own.answer("s3_presign", key="1")["url"]
    assert [entry["key"] for entry in s3.answer("s3_list")["entries"]] == ["orders/1", "orders/2", "secret"]

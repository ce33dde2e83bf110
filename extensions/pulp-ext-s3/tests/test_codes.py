"""Every code, and what the operator is told with it."""

from __future__ import annotations

import json
import logging
import socket
import socketserver
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from pulp_runtime.ext import Capability
from pulp_runtime.testing import HOSTILE_RANGES, CellUnderTest, guest

from conftest import ACCESS_KEY, BUCKET, SECRET_KEY, Caller, moto, request, settings
from pulp_ext_s3 import bucket, narrow, store, transport
from pulp_ext_s3.store import capability

FUNCTIONS = {function.name: function.words for function in capability().functions.values()}
DELIVERING = [name for name, words in FUNCTIONS.items() if words == 4]
MESSAGES: dict[str, dict[str, Any]] = {
    **{name: {"key": "k"} for name in FUNCTIONS},
    "s3_copy": {"src_key": "k", "dst_key": "k2"},
    "s3_list": {},
    "s3_put_multipart_part": {"key": "k", "upload_id": "u", "part_number": 1},
    "s3_put_multipart_complete": {"key": "k", "upload_id": "u", "parts": [{"part_number": 1, "etag": "e"}]},
    "s3_put_multipart_abort": {"key": "k", "upload_id": "u"},
}


def reasons(caller: Caller) -> list[object]:
    return [record.fields["reason"] for record in caller.cell.logged if record.message == "s3 call failed"]


def test_the_imports_are_the_published_ones() -> None:
    sending = ["s3_copy", "s3_delete", "s3_put", "s3_put_multipart_abort", "s3_put_multipart_complete", "s3_put_sized"]

    assert sorted(name for name, words in FUNCTIONS.items() if words == 2) == sending
    assert sorted(DELIVERING) == [
        "s3_get",
        "s3_head",
        "s3_list",
        "s3_presign",
        "s3_presign_put",
        "s3_put_multipart_init",
        "s3_put_multipart_part",
    ]


# Before the store is asked ------------------------------------------------------------------------------------------


@pytest.fixture
def unset(make: Callable[..., Caller]) -> Caller:
    return make({})


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_empty_message_is_1(unset: Caller, name: str) -> None:
    assert unset.cell.run(name, 64, 0, *([8, 12] if name in DELIVERING else [])) == 1


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("words", HOSTILE_RANGES.values(), ids=HOSTILE_RANGES.keys())
def test_a_message_outside_memory_is_2(unset: Caller, name: str, words: tuple[int, int]) -> None:
    assert unset.cell.run(name, *words, *([8, 12] if name in DELIVERING else [])) == 2


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("data", [b"\xc1", b"\x01", b"\xdf\xff\xff\xff\xff", b"\x81\xa3key\x93\x01\x02\x03"])
def test_a_message_of_another_kind_is_3(unset: Caller, name: str, data: bytes) -> None:
    if name in ("s3_copy", "s3_list"):
        data = data.replace(b"\xa3key", b"\xa6prefix" if name == "s3_list" else b"\xa7src_key")
    unset.cell.write(64, data)

    assert unset.cell.run(name, 64, len(data), *([8, 12] if name in DELIVERING else [])) == 3


@pytest.mark.parametrize("name", FUNCTIONS)
def test_without_settings_a_good_call_is_10(unset: Caller, name: str) -> None:
    assert unset.code(name, **MESSAGES[name]) == 10


def test_the_operator_is_told_which_settings_are_missing(make: Callable[..., Caller]) -> None:
    caller = make({}, {"S3_BUCKET": "b", "R2_ACCESS_KEY_ID": "a"})

    told = [record.fields["missing"] for record in caller.cell.logged if "missing" in record.fields]
    assert told == [["S3_ENDPOINT", "S3_SECRET_ACCESS_KEY"]]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_cell_that_does_not_declare_it_is_answered_99(pulp_cell: Callable[..., CellUnderTest], name: str) -> None:
    one = capability()
    cell = pulp_cell(guest(one), capabilities=[one], declares=[])

    assert cell.run(name, *[0] * FUNCTIONS[name]) == 99


# Delivery -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alloc", "code"), [pytest.param("refuse", 7, id="has no room"), pytest.param("outside", 8, id="lies about it")]
)
def test_an_answer_is_lost_on_a_guest_that(make: Callable[..., Caller], endpoint: str, alloc: str, code: int) -> None:
    assert make(settings(endpoint), alloc=alloc).code("s3_presign", key="k") == code


def test_an_answer_without_a_place_is_8(s3: Caller) -> None:
    data = msgspec.msgpack.encode({"key": "k"})
    s3.cell.write(64, data)

    assert s3.cell.run("s3_presign", 64, len(data), 65_534, 12) == 8


# Refused by the store -----------------------------------------------------------------------------------------------


def test_a_bucket_that_is_not_there_is_4_and_logged(make: Callable[..., Caller], endpoint: str) -> None:
    caller = make(settings(endpoint, bucket="elsewhere"))

    assert caller.code("s3_put", key="k") == 4
    assert reasons(caller) == ["NoSuchBucket (404)"]


@pytest.fixture(scope="module")
def strict() -> Iterator[tuple[str, dict[str, Any]]]:
    """Return a server that checks signatures, and the settings of somebody it lets in."""
    with moto(INITIAL_NO_AUTH_ACTION_COUNT="4") as address:
        request("PUT", f"{address}/{BUCKET}")
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
        answers = [
            iam(address, Action="CreateUser", UserName="pulp"),
            iam(address, Action="PutUserPolicy", UserName="pulp", PolicyName="p", PolicyDocument=json.dumps(policy)),
            iam(address, Action="CreateAccessKey", UserName="pulp"),
        ]
        key, secret = (between(answers[-1], name) for name in ("AccessKeyId", "SecretAccessKey"))
        yield address, settings(address, access_key_id=key, secret_access_key=secret)


def iam(address: str, **form: str) -> str:
    data = urllib.parse.urlencode({**form, "Version": "2010-05-08"}).encode()
    scope = "AWS4-HMAC-SHA256 Credential=x/20200101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=x"
    with urllib.request.urlopen(urllib.request.Request(address, data, {"Authorization": scope})) as answer:
        return str(answer.read().decode())


def between(text: str, name: str) -> str:
    return text.partition(f"<{name}>")[2].partition(f"</{name}>")[0]


@pytest.mark.slow
def test_a_server_that_checks_signatures_takes_ours(make: Callable[..., Caller], strict: tuple[str, Any]) -> None:
    caller = make(strict[1])

    caller.answer("s3_put", key="ä b/c+d", body=b"signed")
    assert caller.answer("s3_get", key="ä b/c+d")["body"] == b"signed"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FUNCTIONS if "presign" not in name])
def test_credentials_that_the_store_refuses_are_11(
    make: Callable[..., Caller], strict: tuple[str, Any], name: str
) -> None:
    caller = make({**strict[1], "secret_access_key": SECRET_KEY})

    assert caller.code(name, **MESSAGES[name]) == 11
    assert SECRET_KEY not in str(caller.cell.logged)


# A store that does not answer, or too much --------------------------------------------------------------------------


class Handler(socketserver.BaseRequestHandler):
    """Reads one request, and answers as its server says."""

    def handle(self) -> None:
        self.request.recv(65_536)
        try:
            self.server.answer(self.request)
        except OSError:
            pass  # the client has had enough


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.answer, server.daemon_threads, server.block_on_close = answer, True, False
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def silent(connection: socket.socket) -> None:
    connection.recv(1)  # until the client gives up


def stalled(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    connection.recv(1)


def endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + bytes(65_536) + b"\r\n")


def huge(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n")


def cut(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")


def nonsense(connection: socket.socket) -> None:
    connection.sendall(b"SSH-2.0-whatever\r\n")


def elsewhere(connection: socket.socket) -> None:
    body = b"<Error><Code>PermanentRedirect</Code><Endpoint>10.0.0.1</Endpoint></Error>"
    head = "HTTP/1.1 301 Moved\r\nLocation: http://10.0.0.1/\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    connection.sendall((head % len(body)).encode() + body)


@pytest.mark.slow
@pytest.mark.parametrize("answer", [silent, stalled])
def test_a_store_that_is_too_slow_is_4_before_the_deadline_of_the_call(
    make: Callable[..., Caller], answer: Callable[[socket.socket], None]
) -> None:
    with serving(answer) as endpoint:
        caller = make(settings(endpoint), call_timeout_ms=800)
        began = time.monotonic()

        assert caller.code("s3_get", key="k") == 4  # and no trap
    assert 0.5 < time.monotonic() - began < 0.8
    assert reasons(caller) == ["TimeoutError: no answer before the deadline of the call"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (huge, "the object has more than 67,108,864 bytes; presign it"),
        (cut, "IncompleteRead: the connection ended"),
        (nonsense, "BadStatusLine: the connection ended"),
    ],
)
def test_an_answer_that_is_none_is_4(
    make: Callable[..., Caller], answer: Callable[[socket.socket], None], reason: str
) -> None:
    with serving(answer) as endpoint:
        caller = make(settings(endpoint))

        assert caller.code("s3_get", key="k") == 4
    assert reasons(caller) == [reason]


def test_an_answer_without_end_is_cut_off(make: Callable[..., Caller], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MOST_BYTES", 1_000_000)
    monkeypatch.setattr(bucket, "MOST_BYTES", 1_000_000)
    with serving(endless) as endpoint:
        caller = make(settings(endpoint))

        assert caller.code("s3_get", key="k") == 4
    assert reasons(caller) == ["the object has more than 1,000,000 bytes; presign it"]


def test_nobody_is_followed_to_another_host(make: Callable[..., Caller]) -> None:
    with serving(elsewhere) as endpoint:
        caller = make(settings(endpoint))

        assert caller.code("s3_get", key="k") == 4
    assert reasons(caller) == ["the store sends us elsewhere (301); correct S3_ENDPOINT or S3_REGION"]


def test_a_store_that_is_not_there_is_4(make: Callable[..., Caller]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        address = f"http://127.0.0.1:{reserved.getsockname()[1]}"
    caller = make(settings(address))

    assert caller.code("s3_get", key="k") == 4
    assert reasons(caller) == ["ConnectionRefusedError: Connection refused"]


def test_a_body_over_the_bound_is_not_sent(
    make: Callable[..., Caller], endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MOST_BYTES", 8)
    caller = make(settings(endpoint))

    assert caller.code("s3_put", key="at", body=b"12345678") == 0
    assert caller.code("s3_put", key="over", body=b"123456789") == 4
    assert caller.code("s3_put_multipart_part", key="over", upload_id="u", part_number=1, data=b"123456789") == 4
    assert [entry["key"] for entry in caller.answer("s3_list")["entries"]] == ["at"]


def test_a_connection_that_the_store_closed_meanwhile_is_replaced(make: Callable[..., Caller]) -> None:
    asked: list[int] = []

    def once(connection: socket.socket) -> None:
        asked.append(1)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")  # and close, without a word

    with serving(once) as endpoint:
        caller = make(settings(endpoint))

        assert [caller.answer("s3_get", key="k")["body"] for _ in range(3)] == [b"abc"] * 3
    assert len(asked) == 3


# What is not built, and what is not told ----------------------------------------------------------------------------

NARROW = [narrow.public_upload(), narrow.download_reference(), narrow.artifact_validation()]


@pytest.mark.parametrize("one", NARROW, ids=lambda one: one.name)
def test_a_narrow_capability_is_refused_with_a_sentence(
    pulp_cell: Callable[..., CellUnderTest], one: Capability
) -> None:
    with pytest.raises(Exception, match=f"{one.name} is not built: what its messages hold is not published"):
        pulp_cell(guest(one), capabilities=[one])


@pytest.mark.parametrize("one", NARROW, ids=lambda one: one.name)
def test_a_narrow_function_that_is_only_imported_is_99(
    pulp_cell: Callable[..., CellUnderTest], one: Capability
) -> None:
    cell = pulp_cell(guest(one), capabilities=[one], declares=[])

    assert {cell.run(name, 0, 0, 0, 0) for name in one.functions} == {99}


def test_the_secret_is_in_no_log_no_answer_and_no_memory_of_the_guest(
    make: Callable[..., Caller], endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caller = make(settings(endpoint))
    for name, message in MESSAGES.items():
        caller.code(name, **message)

    seen = "\n".join([caplog.text, *caller.cell.transcript, *map(str, caller.cell.logged)])
    assert ACCESS_KEY in seen, "which is public: a presigned address shows it"
    assert SECRET_KEY not in seen
    assert SECRET_KEY.encode() not in caller.cell.read(0, caller.cell.memory_bytes)

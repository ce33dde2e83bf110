from __future__ import annotations

import msgpack

from pulp_runtime.abi.codec import decode_struct, encode_str_map
from pulp_runtime.abi.http import (
    HTTPRegister,
    HTTPRequest,
    HTTPResponse,
    encode_http_request,
    join_http_request,
    pack_query,
    pack_remote_addr,
    pack_target,
)


def test_a_request_has_its_fields_in_order() -> None:
    encoded = encode_http_request(
        2,
        "POST",
        "/a b",
        params={"id": "1"},
        query={"q": ""},
        headers={"X-A": "é"},
        body=b"\xff",
        remote_addr="127.0.0.1:80",
    )

    assert list(msgpack.unpackb(encoded).items()) == [
        ("id", 2),
        ("method", "POST"),
        ("path", "/a b"),
        ("params", {"id": "1"}),
        ("query", {"q": ""}),
        ("headers", {"X-A": "é"}),
        ("body", b"\xff"),
        ("remote_addr", "127.0.0.1:80"),
    ]


def test_an_empty_address_is_left_out_and_an_empty_map_is_not() -> None:
    encoded = encode_http_request(1, "GET", "/", params={}, query={}, headers={}, body=b"", remote_addr="")

    assert msgpack.unpackb(encoded) == {
        "id": 1,
        "method": "GET",
        "path": "/",
        "params": {},
        "query": {},
        "headers": {},
        "body": b"",
    }


def test_parts_that_were_kept_give_the_same_request() -> None:
    headers = encode_str_map({"Accept": "*/*"})
    joined = join_http_request(
        3, pack_target("GET", "/x"), encode_str_map({}), pack_query({}), headers, b"hi", pack_remote_addr("[::1]:9")
    )
    whole = encode_http_request(
        3, "GET", "/x", params={}, query={}, headers={"Accept": "*/*"}, body=b"hi", remote_addr="[::1]:9"
    )

    assert joined == whole


def test_a_request_reads_back_as_a_struct() -> None:
    encoded = encode_http_request(4, "PUT", "/y", params={}, query={}, headers={}, body=b"z", remote_addr="")

    assert decode_struct(encoded, HTTPRequest) == HTTPRequest(
        id=4, method="PUT", path="/y", params={}, query={}, headers={}, body=b"z"
    )


def test_a_reply_may_leave_everything_but_the_id_out() -> None:
    assert decode_struct(msgpack.packb({"id": 5}), HTTPResponse) == HTTPResponse(id=5)


def test_a_route_is_read() -> None:
    route = decode_struct(msgpack.packb({"method": "GET", "path": "/{id}"}), HTTPRegister)

    assert route == HTTPRegister(method="GET", path="/{id}")

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from pulp_runtime.abi.http import HTTPRequest
from pulp_runtime.abi.typed import decode_struct
from pulp_runtime.testing import CellUnderTest, Fake, guest

Make = Callable[..., CellUnderTest]

ECHO = Path(__file__).parents[2] / "examples" / "echo"
GUESTS = Path(__file__).parents[1] / "guests"


@pytest.fixture
def echo(pulp_cell: Make) -> CellUnderTest:
    cell = pulp_cell(ECHO / "c")
    cell.init()
    return cell


def test_a_request_is_answered_without_a_socket(echo: CellUnderTest) -> None:
    answer = echo.http_request("GET", "/echo/h%C3%A9")

    assert (answer.status, answer.body) == (200, "hé".encode())
    assert answer.headers == {"Content-Type": "text/plain; charset=utf-8"}
    assert echo.endpoints == []


def test_a_body_goes_in_and_comes_back(echo: CellUnderTest) -> None:
    assert echo.http_request("POST", "/echo", body=bytes(range(256))).body == bytes(range(256))


def test_requests_are_numbered_from_1(echo: CellUnderTest) -> None:
    assert [echo.http_request("GET", "/echo/x").id for _ in range(3)] == [1, 2, 3]


def test_the_transcript_holds_routes_and_answers(echo: CellUnderTest) -> None:
    echo.http_request("GET", "/echo/hi")

    assert echo.transcript[:2] == ["==> http_register({'method': 'GET', 'path': '/echo/:msg'})", "<== 0"]
    assert echo.replies("http_respond")[0]["body"] == b"hi"


@pytest.mark.parametrize(("method", "target"), [("GET", "/nowhere"), ("DELETE", "/echo/hi"), ("GET", "/echo")])
def test_a_path_without_a_route_is_404_and_the_cell_does_not_run(echo: CellUnderTest, method: str, target: str) -> None:
    answer = echo.http_request(method, target)

    assert (answer.status, answer.body) == (404, b"404 page not found")
    assert echo.call_number == 0


def test_a_cell_that_does_not_answer_is_500(pulp_cell: Make) -> None:
    cell = pulp_cell(GUESTS / "http_any.wat", declares=["transport.http.inbound"])
    cell.init()

    answer = cell.http_request("GET", "/x")

    assert (answer.status, answer.body) == (500, b"cell did not respond")


@pytest.mark.slow
def test_a_go_cell_is_tested_the_same_way(pulp_cell: Make) -> None:
    cell = pulp_cell(ECHO / "go")
    cell.init()

    assert cell.http_request("GET", "/echo/go").body == b"go"


RESPONDS = guest({"http_register": 2, "http_respond": 2}).replace(
    '(func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))',
    """(func (export "pulp_step") (param $at i32) (param $len i32) (result i32)
    (memory.copy (i32.const 4096) (local.get $at) (local.get $len))
    (if (i32.load (i32.const 0)) (then
      (return (call $http_respond (i32.const 4) (i32.load (i32.const 0))))))
    (i32.const -1))""",
)


@pytest.fixture
def responder(pulp_cell: Make) -> CellUnderTest:
    """Answer every request with the MessagePack at address 4, as long as the word at address 0."""
    cell = pulp_cell(RESPONDS, declares=["transport.http.inbound"])
    cell.write(2048, b"\x82\xa6method\xa3GET\xa4path\xa2/x")
    assert cell.run("http_register", 2048, 20) == 0
    return cell


def respond(cell: CellUnderTest, reply: dict[str, object]) -> None:
    data = msgspec.msgpack.encode(reply)
    cell.write(0, len(data).to_bytes(4, "little") + data)


def test_what_a_reply_leaves_out_is_empty_and_0_is_200(responder: CellUnderTest) -> None:
    respond(responder, {"id": 1})

    answer = responder.http_request("GET", "/x")

    assert (answer.status, answer.headers, answer.cookies, answer.body) == (200, {}, [], b"")


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param({"id": 2}, id="to a request that is not there"),
        pytest.param({"id": 1, "status": 99}, id="with an impossible status"),
        pytest.param({"id": 1, "headers": {"X": "a\r\nSet-Cookie: b"}}, id="that splits the response"),
    ],
)
def test_a_reply_is_refused(responder: CellUnderTest, reply: dict[str, object]) -> None:
    respond(responder, reply)

    assert responder.http_request("GET", "/x").status == 500
    assert responder.transcript[-1] == "<== 4"


def test_the_cell_sees_the_request_as_a_listener_would_give_it(responder: CellUnderTest) -> None:
    responder.http_request("GET", "/x?q=1&q=2&e", headers={"x-token": "t"}, body=b"b", remote_addr="[::1]:9")

    length = int.from_bytes(responder.read(4096 + 16, 4), "little")
    prefix = len(b"\x82\xa4kind\xachttp.request\xa7payload")
    request = decode_struct(responder.read(4096 + 20 + prefix, length - prefix), HTTPRequest)
    assert request == HTTPRequest(
        id=1,
        method="GET",
        path="/x",
        params={},
        query={"q": "1", "e": ""},
        headers={"X-Token": "t"},
        body=b"b",
        remote_addr="[::1]:9",
    )


def test_a_cell_that_does_not_declare_http_gets_no_requests(pulp_cell: Make) -> None:
    with pytest.raises(LookupError, match=r"does not declare transport\.http\.inbound"):
        pulp_cell(GUESTS / "minimal.wat").http_request("GET", "/")


def test_a_fake_of_the_test_takes_the_place_of_the_stand_in(pulp_cell: Make) -> None:
    cell = pulp_cell(
        ECHO / "c", capabilities=[Fake("transport.http.inbound", http_register=(2, 0), http_respond=(2, 0))]
    )
    cell.init()

    with pytest.raises(LookupError):
        cell.http_request("GET", "/echo/hi")

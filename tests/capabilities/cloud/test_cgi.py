"""CGI: functions that print their answer, and are told of the request in their environment."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.capabilities.cloud.programs import SECONDS, Exit, PlayedRun, Stage, Trap, errno_of, unhurried

from pulp_runtime.capabilities.cloud.cgi import HELD_BYTES
from pulp_runtime.capabilities.cloud.response_text import PLAIN, UNDECIDED, Malformed, Verdict, judge, parse_cgi_head

__all__ = ["unhurried"]

PLAIN_TEXT = "text/plain; charset=utf-8"


def environ_of(request: bytes, before: dict[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a function that is asked so."""
    found: dict[str, str] = {}

    class Before(Stage):
        def _run(self, run: PlayedRun) -> None:
            run.environ.update(before or {})
            super()._run(run)

    with Before(lambda run: found.update(run.environ)) as stage, stage.dial() as client:
        client.sendall(request)
        assert client.recv(4096).startswith(b"HTTP/1.1 204 ")
        address = client.getsockname()
    assert (found.pop("REMOTE_ADDR"), found.pop("REMOTE_PORT")) == (address[0], str(address[1]))
    return found


# The environment ------------------------------------------------------------------------------------------------------


def test_the_environment_is_that_of_cgi() -> None:
    request = b"POST /files/a%20b?q=%20x HTTP/1.1\r\nHost: example.com:81\r\nContent-Type: a/b\r\n"

    assert environ_of(request + b"Content-Length: 2\r\nX-A: 1\r\nX-A: 2\r\n\r\nhi") == {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_SOFTWARE": "pulp",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "example.com",
        "SERVER_PORT": "81",
        "REQUEST_METHOD": "POST",
        "REQUEST_URI": "/files/a%20b?q=%20x",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/files/a b",
        "QUERY_STRING": "q=%20x",
        "CONTENT_TYPE": "a/b",
        "CONTENT_LENGTH": "2",
        "HTTP_HOST": "example.com:81",
        "HTTP_X_A": "1, 2",
    }


@pytest.mark.parametrize(
    ("host", "name", "port"),
    [("a", "a", "80"), ("a:8", "a", "8"), ("[::1]", "[::1]", "80"), ("[::1]:8", "[::1]", "8"), ("", "", "80")],
)
def test_the_server_is_the_host_that_was_asked(host: str, name: str, port: str) -> None:
    environ = environ_of(f"GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())

    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == (name, port)


def test_threat_38_a_client_cannot_set_variables_that_libraries_trust() -> None:
    lines = (
        b"Proxy: http://evil\r\nAuthorization: Bearer s\r\nProxy-Authorization: Basic s\r\nX_User: root\r\nX-User: me"
    )
    environ = environ_of(b"GET /x HTTP/1.1\r\nHost: h\r\n" + lines + b"\r\n\r\n", {"HTTP_X_USER": "operator"})

    assert {name: value for name, value in environ.items() if name.startswith("HTTP_")} == {
        "HTTP_HOST": "h",
        "HTTP_X_USER": "operator",
    }
    assert "Bearer s" not in environ.values()


def test_standard_input_is_the_body() -> None:
    with Stage(lambda run: run.print(b"got " + run.take(run.stdin))) as stage:
        assert stage.ask("POST", body=b"abc").read() == b"got abc"
        assert stage.get() == (200, b"got ")


# Standard output ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "status", "headers", "body"),
    [
        ("hello", 200, {"Content-Type": PLAIN_TEXT}, "hello"),
        ("a\nb\n", 200, {"Content-Type": PLAIN_TEXT}, "a\nb\n"),
        ("Content-Type: text/html\n\n<p>", 200, {"Content-Type": "text/html"}, "<p>"),
        ("Content-Type: text/html\r\nX-A: 1\r\n\r\n<p>", 200, {"Content-Type": "text/html", "X-A": "1"}, "<p>"),
        ("Status: 404 Not Found\n\n", 404, {}, ""),
        ("Status: 404\nContent-Type: a/b\n\nno", 404, {"Content-Type": "a/b"}, "no"),
        ("Location: https://a/b\n\n", 302, {"Location": "https://a/b"}, ""),
        ("Location: /local\nStatus: 307\n\n", 307, {"Location": "/local"}, ""),
        ("Content-Type: a/b\nSet-Cookie: a=1\nSet-Cookie: b=2\n\n", 200, {"Content-Type": "a/b"}, ""),
        ("Note: no header of CGI\n\nbody", 200, {"Content-Type": PLAIN_TEXT}, "Note: no header of CGI\n\nbody"),
        ("Content-Type: a/b\n", 200, {"Content-Type": PLAIN_TEXT}, "Content-Type: a/b\n"),
        ("\n\nContent-Type: a/b\n\n", 200, {"Content-Type": PLAIN_TEXT}, "\n\nContent-Type: a/b\n\n"),
        ("a b: c\nStatus: 404\n\n", 200, {"Content-Type": PLAIN_TEXT}, "a b: c\nStatus: 404\n\n"),
    ],
)
@pytest.mark.parametrize("pieces", ["in one piece", "byte by byte"])
def test_what_is_printed_is_the_answer(
    output: str, status: int, headers: dict[str, str], body: str, pieces: str
) -> None:
    def program(run: PlayedRun) -> None:
        for piece in [output] if pieces == "in one piece" else output:
            run.print(piece)

    with Stage(program) as stage:
        answer = stage.whole()

    assert (answer.status, answer.body.decode()) == (status, body)
    assert headers.items() <= dict(answer.headers).items()


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("Status: none\n\n", "not a status"),
        ("Status: 99\n\n", "status outside 100..599"),
        ("Content-Type: a\0b\n\n", "a control character in the value of Content-Type"),
        ("Content-Type: a\rb\n\n", "a control character in the value of Content-Type"),
    ],
)
def test_a_malformed_header_block_is_502(output: str, reason: str) -> None:
    def program(run: PlayedRun) -> None:
        assert errno_of(run.print, output) == "EINVAL"

    with Stage(program) as stage:
        assert stage.get()[0] == 502

    assert stage.logged("response refused")["reason"] == reason


def test_output_goes_to_the_log_once_a_response_is_written() -> None:
    def program(run: PlayedRun) -> None:
        run.print("before ")
        run.write("/response/body", "the answer")
        run.print("after")

    with Stage(program) as stage:
        assert stage.get() == (200, b"the answer")
        assert stage.runs[0].log.text == b"before after"


def test_output_before_a_response_goes_to_the_log_also_without_more() -> None:
    def program(run: PlayedRun) -> None:
        run.print("just saying")
        run.write("/response/status", "201")

    with Stage(program) as stage:
        assert stage.get()[0] == 201
        assert stage.runs[0].log.text == b"just saying"


def test_a_response_cannot_be_written_once_the_header_block_is_printed() -> None:
    def program(run: PlayedRun) -> None:
        run.print("Content-Type: a/b\n\nfirst")
        assert errno_of(run.open, "/response/body", "w") == "EBUSY"

    with Stage(program) as stage:
        assert stage.get() == (200, b"first")


@pytest.mark.parametrize("end", [Exit(1), Trap()])
def test_plain_output_of_a_function_that_fails_is_no_answer_and_goes_to_the_log(end: Exception) -> None:
    def program(run: PlayedRun) -> None:
        run.print("oh no")
        raise end

    with Stage(program) as stage:
        assert stage.get()[0] == 502
        assert stage.runs[0].log.text == b"oh no"


def test_an_answer_with_a_header_block_counts_whatever_the_exit_status_is() -> None:
    def program(run: PlayedRun) -> None:
        run.print("Status: 400\n\nwrong")
        raise Exit(1)

    with Stage(program) as stage:
        assert stage.get() == (400, b"wrong")


def test_an_answer_that_was_being_printed_when_the_function_trapped_is_none(unhurried: None) -> None:
    def program(run: PlayedRun) -> None:
        run.print("Status: 200\n\nhalf")
        raise Trap

    with Stage(program) as stage:
        assert stage.get()[0] == 502


def test_what_follows_a_header_block_is_streamed() -> None:
    go = threading.Event()

    def program(run: PlayedRun) -> None:
        run.print("Content-Type: a/b\n\none")
        assert go.wait(SECONDS)
        run.print("two")

    with Stage(program) as stage:
        answer = stage.ask()
        assert answer.read1(3) == b"one"
        go.set()
        assert answer.read() == b"two"


def test_long_plain_output_is_streamed_from_64_kib_on_and_not_kept() -> None:
    text = b"x" * 1_000_000

    with Stage(lambda run: run.print(text)) as stage:
        answer = stage.whole()

    assert (answer.body, answer.getheader("Content-Type")) == (text, PLAIN_TEXT)
    assert answer.getheader("Transfer-Encoding") == "chunked"
    assert len(text) > HELD_BYTES


TEXT = st.lists(
    st.sampled_from([b"Content-Type", b"Status", b"X", b":", b" ", b"\n", b"\r\n", b"200", b"\0", b"\xff", b"a/b"]),
    max_size=14,
).map(b"".join)


@given(TEXT, st.data())
@settings(deadline=None, max_examples=300)
def test_output_means_the_same_in_whatever_pieces_it_comes(output: bytes, data: st.DataObject) -> None:
    whole = judge(output)
    at = data.draw(st.integers(0, len(output)))
    early = judge(output[:at])

    assert not early.decided or early == whole
    if whole.body:
        try:
            head = parse_cgi_head(output[: whole.head])
        except Malformed:
            return  # a 502
        else:
            assert 200 <= head.status <= 599
            assert not any(forbidden in value for _, value in head.pairs for forbidden in "\r\n\0")


@pytest.mark.parametrize(
    ("output", "verdict"),
    [
        (b"", UNDECIDED),
        (b"Content", UNDECIDED),
        (b"Content-Type:", UNDECIDED),
        (b"Content-Type: a\n", UNDECIDED),
        (b"Content-Type: a\n\r", UNDECIDED),
        (b"Content-Type: a\n\n", Verdict(True, 15, 17)),
        (b"content-type: a\r\n\r\nb", Verdict(True, 15, 19)),
        (b"hello", UNDECIDED),
        (b"hello\n", PLAIN),
        (b"hello world", PLAIN),
        (b"\xff", PLAIN),
        (b": x\n\n", PLAIN),
        (b"X: 1\n\n", PLAIN),
        (b": x\nStatus: 404\n\n", PLAIN),
        (b"X: " + b"x" * HELD_BYTES, PLAIN),
    ],
)
def test_a_header_block_is_known_as_soon_as_it_can_be(output: bytes, verdict: Verdict) -> None:
    assert judge(output) == verdict

from __future__ import annotations

import zlib
from typing import Any, cast

import pytest
from tests.net.websocket_client import TEXT, masked
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from pulp_runtime._net.exchange import Connection, Request
from pulp_runtime._net.head import HeadParser
from pulp_runtime._net.response import assemble
from pulp_runtime._net.settings import HttpSettings
from pulp_runtime._net.websocket_deflate import WORTH_BYTES, Deflate, agree
from pulp_runtime._net.websocket_frames import FrameReader, WebSocketFault
from pulp_runtime._net.websocket_handshake import HandshakeRefused, accept, accept_key

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def request(*lines: str, first: str = "GET /chat HTTP/1.1", body: bytes = b"", **headers: str | None) -> Request:
    """Return a handshake; `headers` replace or (None) leave out one of the usual."""
    usual: dict[str, str | None] = {
        "Host": "example.com",
        "Upgrade": "websocket",
        "Connection": "keep-alive, Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    usual |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "\r\n".join([first, *(f"{name}: {value}" for name, value in usual.items() if value is not None), *lines])
    line, block = HeadParser(HttpSettings()).parse(head.encode() + b"\r\n\r\n")
    return Request(cast(Connection, None), line, block, body, True, 0.0)


def refusal(one: Request, **options: Any) -> HandshakeRefused:
    with pytest.raises(HandshakeRefused) as caught:
        accept(one, **options)
    return caught.value


def test_a_handshake_is_answered_as_the_specification_shows() -> None:
    answer = accept(request()).answer

    assert answer == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )
    assert accept_key(KEY) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_no_subprotocol_and_by_default_no_compression_is_agreed_on() -> None:
    one = request("Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Extensions: permessage-deflate")
    shaken = accept(one)

    assert shaken.answer.count(b"\r\n") == 5
    assert shaken.deflate is None


@pytest.mark.parametrize(
    ("one", "status"),
    [
        pytest.param(request(first="POST /chat HTTP/1.1"), 405, id="another method"),
        pytest.param(request(first="GET /chat HTTP/1.0"), 426, id="HTTP/1.0, where Upgrade means nothing"),
        pytest.param(request(Upgrade=None), 426, id="no Upgrade"),
        pytest.param(request(Upgrade="h2c"), 426, id="an upgrade to something else"),
        pytest.param(request(Connection="keep-alive"), 426, id="Connection that does not say upgrade"),
        pytest.param(request(Sec_WebSocket_Version=None), 400, id="no version"),
        pytest.param(request(Sec_WebSocket_Version="8"), 400, id="an old version"),
        pytest.param(request(Sec_WebSocket_Key=None), 400, id="no key"),
        pytest.param(request(Sec_WebSocket_Key="c2hvcnQ="), 400, id="a short key"),
        pytest.param(request(Sec_WebSocket_Key="!" * 24), 400, id="a key that is not base64"),
        pytest.param(request(Sec_WebSocket_Key=KEY + "é"), 400, id="a key that is not ASCII"),
        pytest.param(request("Content-Length: 5", body=b"hello"), 400, id="a body"),
        pytest.param(request("Transfer-Encoding: chunked"), 400, id="an empty body in chunks"),
    ],
)
def test_what_is_no_handshake_is_refused(one: Request, status: int) -> None:
    refused = refusal(one)

    assert refused.status == status
    assert assemble(*refused.answer).startswith(b"HTTP/1.1 %d " % status)


def test_a_refusal_says_what_would_have_done() -> None:
    assert b"\r\nSec-WebSocket-Version: 13\r\n" in assemble(*refusal(request(Sec_WebSocket_Version="8")).answer)
    assert b"\r\nUpgrade: websocket\r\n" in assemble(*refusal(request(Upgrade=None)).answer)
    assert b"\r\nAllow: GET\r\n" in assemble(*refusal(request(first="PUT / HTTP/1.1")).answer)


@pytest.mark.parametrize(
    ("origin", "host", "fine"),
    [
        (None, "example.com", True),
        ("http://example.com", "example.com", True),
        ("https://EXAMPLE.com", "example.COM", True),
        ("http://example.com:8080", "example.com:8080", True),
        ("http://[::1]:8080", "[::1]:8080", True),
        ("http://example.com", "example.com:8080", False),
        ("http://evil.example", "example.com", False),
        ("http://example.com.evil.example", "example.com", False),
        ("http://evil.example/example.com", "example.com", False),
        ("http://example.com@evil.example", "example.com", False),
        ("null", "example.com", False),
        ("null", "null", False),
        ("", "example.com", False),
        ("http://", "example.com", False),
        ("example.com", "example.com", False),
    ],
)
def test_threat_40_a_page_may_connect_to_the_host_it_came_from_only(origin: str | None, host: str, fine: bool) -> None:
    one = request(Host=host, Origin=origin)
    if fine:
        accept(one)
    else:
        assert refusal(one).status == 403


def test_the_host_of_an_absolute_target_counts() -> None:
    one = request(first="GET http://real.example/chat HTTP/1.1", Origin="http://example.com")

    assert refusal(one).status == 403
    accept(request(first="GET http://real.example/chat HTTP/1.1", Origin="http://real.example"))


@pytest.mark.parametrize(
    ("allowed", "origin", "fine"),
    [
        ("https://app.example", "https://APP.example", True),
        ("https://app.example", "http://app.example", False),
        ("https://app.example", "https://app.example:444", False),
        ("https://app.example", "http://example.com", True),
        ("*", "https://anything.example", True),
        ("*", "null", True),
        ("null", "null", True),
    ],
)
def test_origins_of_elsewhere_can_be_allowed(allowed: str, origin: str, fine: bool) -> None:
    one = request(Origin=origin)
    if fine:
        accept(one, origins={allowed})
    else:
        assert refusal(one, origins={allowed}).status == 403


# Compression --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("permessage-deflate", ""),
        ("permessage-deflate; client_max_window_bits", ""),
        ("permessage-deflate; client_max_window_bits=9; server_no_context_takeover", ""),
        ("permessage-deflate; client_no_context_takeover", ""),
        ("permessage-deflate; server_max_window_bits=10", "; server_max_window_bits=10"),
        ("permessage-deflate; server_max_window_bits=14", "; server_max_window_bits=12"),
        ("permessage-deflate; server_max_window_bits=15", ""),
        ("x-other, permessage-deflate", ""),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", ""),
        ("permessage-deflate; unknown, permessage-deflate; server_max_window_bits=9", "; server_max_window_bits=9"),
    ],
)
def test_an_offer_of_compression_that_can_be_taken_is(offer: str, answer: str) -> None:
    shaken = accept(request(f"Sec-WebSocket-Extensions: {offer}"), deflate=True)
    expected = f"permessage-deflate; server_no_context_takeover; client_no_context_takeover{answer}"

    assert f"\r\nSec-WebSocket-Extensions: {expected}\r\n".encode() in shaken.answer
    assert shaken.deflate is not None


@pytest.mark.parametrize(
    "offer",
    [
        "",
        "x-webkit-deflate-frame",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=010",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; unknown=1",
        "permessage-deflate; =",
        ";;;",
    ],
)
def test_any_other_offer_is_passed_over(offer: str) -> None:
    shaken = accept(request(*([f"Sec-WebSocket-Extensions: {offer}"] if offer else [])), deflate=True)

    assert b"Extensions" not in shaken.answer
    assert shaken.deflate is None


@pytest.mark.parametrize("factory", [{}, {"server_max_window_bits": 9}, {"client_max_window_bits": 10}])
def test_another_implementation_agrees_and_reads_what_we_compress(factory: dict[str, Any]) -> None:
    client = ClientProtocol(
        parse_uri("ws://example.com/chat"), extensions=[ClientPerMessageDeflateFactory(**factory)], max_size=None
    )
    asked = client.connect()
    lines = [f"{name}: {value}" for name, value in asked.headers.raw_items() if name.startswith("Sec-WebSocket-Ext")]
    agreed = agree(lines[0].partition(": ")[2])
    assert agreed is not None
    deflate, told = agreed
    client.key = KEY
    shaken = accept(request(*lines), deflate=True)
    assert told.encode() in shaken.answer
    client.process_response(_response(shaken.answer))
    (extension,) = client.extensions
    assert isinstance(extension, PerMessageDeflate)

    message = b"the same again and again, " * 100
    packed = deflate.deflate(message)
    assert len(packed) < len(message) / 10
    assert extension.decode(Frame(Opcode.BINARY, packed, rsv1=True)).data == message
    back = extension.encode(Frame(Opcode.BINARY, message))
    assert deflate.inflate(bytes(back.data), 1 << 20) == message


def _response(answer: bytes) -> Response:
    lines = answer.decode().split("\r\n")[1:-2]
    return Response(101, "Switching Protocols", Headers(line.split(": ", 1) for line in lines))


def test_a_message_is_compressed_by_itself() -> None:
    deflate = Deflate()

    assert deflate.deflate(b"x" * 1_000) == deflate.deflate(b"x" * 1_000)
    assert deflate.inflate(deflate.deflate(b""), 10) == b""
    assert WORTH_BYTES > 32


def test_threat_40_a_kilobyte_that_stands_for_a_gigabyte_is_refused_at_the_limit() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush(zlib.Z_SYNC_FLUSH)
    assert len(bomb) < 100_000

    with pytest.raises(WebSocketFault, match="1009"):
        Deflate().inflate(bomb[:-4], 32_768)


def test_nonsense_in_place_of_compressed_bytes_is_1007() -> None:
    with pytest.raises(WebSocketFault, match="1007"):
        Deflate().inflate(b"\xff\xff\xff", 1_000)


def test_a_compressed_message_in_fragments_is_checked_when_it_is_whole() -> None:
    deflate = Deflate()
    packed = deflate.deflate("grüße ".encode() * 50)
    data = masked(TEXT, packed[:5], fin=False, rsv=4) + masked(0, packed[5:])
    reader = FrameReader(1_000, deflate)
    reader.feed(data)
    reader.take()
    assert reader.take() == (TEXT, "grüße ".encode() * 50)

    reader.feed(masked(TEXT, deflate.deflate(b"\xff" * 100), rsv=4))
    with pytest.raises(WebSocketFault, match="1007"):
        reader.take()

    reader = FrameReader(1_000, deflate)
    reader.feed(masked(TEXT, packed[:5], fin=False, rsv=4) + masked(0, packed[5:], rsv=4))
    reader.take()
    with pytest.raises(WebSocketFault, match="1002"):
        reader.take()

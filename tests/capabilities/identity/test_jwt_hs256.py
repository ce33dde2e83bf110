"""`identity.jwt.hs256` from a guest, against a reader and writer of tokens that is not ours to configure."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.capabilities.conftest import Puppets
from tests.capabilities.puppet import StubGuest

from pulp_runtime.abi.jwt import JwtToken
from pulp_runtime.capabilities.identity.jwt_hs256 import NAME, Jwt, JwtSettings, capability
from pulp_runtime.errors import HookFailed, HostError
from pulp_runtime.testing import HOSTILE_RANGES, CellUnderTest, guest
from pulp_runtime.testing.host import FakeHost

SECRET = "canary-7f3a9c-not-for-anybody-to-see-" + "0123456789abcdef" * 3
ISSUER = "pulp_runtime.capabilities.identity.jwt_hs256"
SESSION = {"account_id": "acc-1", "session_id": "ses-1"}
IMPORTS = {"jwt_sign": 4, "jwt_verify": 4}
OUTS = (64, 68)
HOUR = 3_600


@pytest.fixture
def cell(pulp_cell: Callable[..., CellUnderTest]) -> CellUnderTest:
    return pulp_cell(guest(capability()), declares=[NAME], settings={NAME: {"secret": SECRET}})


def ask(cell: CellUnderTest, function: str, request: object) -> Any:
    """Return what was delivered, or the code."""
    data = request if isinstance(request, bytes) else msgspec.msgpack.encode(request)
    cell.write(0, bytes(72))
    cell.write(1024, data)
    if code := cell.run(function, 1024, len(data), *OUTS):
        return code
    address, length = (int.from_bytes(cell.read(out, 4), "little") for out in OUTS)
    return msgspec.msgpack.decode(cell.read(address, length))


def in_an_hour() -> int:
    return (int(time.time()) + HOUR) * 1000


def token(secret: str = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **claims: Any) -> str:
    """Return a token that is valid, but for what is given; None leaves a claim out."""
    every = {"iss": ISSUER, "aud": NAME, "exp": int(time.time()) + HOUR, **SESSION, **claims}
    kept = {name: value for name, value in every.items() if value is not None}
    return jwt.encode(kept, secret, algorithm=algorithm, headers=headers)


# Good -------------------------------------------------------------------------------------------------------------


def test_what_is_signed_can_be_verified(cell: CellUnderTest) -> None:
    signed = ask(cell, "jwt_sign", {**SESSION, "expires_at": in_an_hour()})

    assert list(signed) == ["token"]
    assert ask(cell, "jwt_verify", signed) == SESSION


def test_another_library_reads_the_token(cell: CellUnderTest) -> None:
    expires = in_an_hour() + 999
    signed = ask(cell, "jwt_sign", {**SESSION, "expires_at": expires})["token"]

    claims = jwt.decode(signed, SECRET, ["HS256"], audience=NAME, issuer=ISSUER)

    assert jwt.get_unverified_header(signed) == {"alg": "HS256", "typ": "JWT"}
    assert claims.pop("iat") == pytest.approx(time.time(), abs=5)
    assert claims == {"iss": ISSUER, "aud": NAME, "exp": expires // 1000, **SESSION}


def test_a_token_of_another_library_is_verified(cell: CellUnderTest) -> None:
    assert ask(cell, "jwt_verify", {"token": token()}) == SESSION
    assert ask(cell, "jwt_verify", {"token": token(aud=[NAME, "another"], extra=[1, 2])}) == SESSION


def test_ids_are_any_text(cell: CellUnderTest) -> None:
    session = {"account_id": "Ünï·çødé\n\0🐙", "session_id": "s" * 1024}

    signed = ask(cell, "jwt_sign", {**session, "expires_at": in_an_hour()})

    assert ask(cell, "jwt_verify", signed) == session


# Not good ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"exp": int(time.time()) - 1}, id="is over"),
        pytest.param({"exp": None}, id="never ends"),
        pytest.param({"exp": "soon"}, id="ends at no time"),
        pytest.param({"nbf": int(time.time()) + HOUR}, id="has not begun"),
        pytest.param({"secret": SECRET + "x"}, id="has another key"),
        pytest.param({"algorithm": "HS512"}, id="has another algorithm"),
        pytest.param({"algorithm": "HS384"}, id="has yet another algorithm"),
        pytest.param({"iss": "somebody"}, id="is somebody else's"),
        pytest.param({"iss": None}, id="is nobody's"),
        pytest.param({"aud": "another"}, id="is for somebody else"),
        pytest.param({"aud": None}, id="is for nobody"),
        pytest.param({"account_id": None}, id="has no account"),
        pytest.param({"session_id": None}, id="has no session"),
        pytest.param({"account_id": 7}, id="has a number for an account"),
        pytest.param({"session_id": ""}, id="has an empty session"),
        pytest.param({"headers": {"crit": ["b64"]}}, id="asks for what nobody understands"),
    ],
)
def test_a_token_is_not_valid_that(cell: CellUnderTest, change: dict[str, Any]) -> None:
    assert ask(cell, "jwt_verify", {"token": token()}) == SESSION
    assert ask(cell, "jwt_verify", {"token": token(**change)}) == 5


def unsigned(algorithm: str) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    claims = {"iss": ISSUER, "aud": NAME, "exp": int(time.time()) + HOUR, **SESSION}
    return f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(claims)}."


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "HS256", "RS256", "ES256"])
def test_a_token_without_a_signature_is_not_valid(cell: CellUnderTest, algorithm: str) -> None:
    assert ask(cell, "jwt_verify", {"token": unsigned(algorithm)}) == 5


@pytest.mark.parametrize("text", ["", "a", "a.b", "a.b.c", "..", "\0", "é.é.é", "a.b.c.d", "x" * 8193, "." * 8192])
def test_what_is_no_token_is_not_valid(cell: CellUnderTest, text: str) -> None:
    assert ask(cell, "jwt_verify", {"token": text}) == 5


def test_a_token_with_one_letter_changed_is_not_valid(cell: CellUnderTest) -> None:
    good = token()

    for at in range(0, len(good) - 1, 7):  # the last letter has bits that mean nothing
        changed = good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1 :]
        assert ask(cell, "jwt_verify", {"token": changed}) == 5


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.tuples(st.binary(max_size=40), st.binary(max_size=40)).map(
    lambda parts: ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (*parts, b"x"))
))  # fmt: skip
def test_no_text_makes_the_verifier_fail(text: str) -> None:
    one = Jwt()
    one._secret = SECRET.encode()

    with pytest.raises(HostError) as refused:
        one.jwt_verify(StubGuest().cell, JwtToken(token=text))

    assert refused.value.code == 5


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"account_id": ""}, id="no account"),
        pytest.param({"session_id": ""}, id="no session"),
        pytest.param({"account_id": "x" * 1025}, id="an account too long"),
        pytest.param({"expires_at": 0}, id="no end"),
        pytest.param({"expires_at": -(1 << 63)}, id="an end before all time"),
        pytest.param({"expires_at": 1_600_000_000_000}, id="an end that is past"),
        pytest.param({"expires_at": (1 << 63) - 1}, id="an end after all time"),
    ],
)
def test_a_session_is_not_signed_with(cell: CellUnderTest, change: dict[str, object]) -> None:
    assert ask(cell, "jwt_sign", {**SESSION, "expires_at": in_an_hour(), **change}) == 4


@pytest.mark.parametrize("function", IMPORTS)
@pytest.mark.parametrize(
    "request_", [b"", b"\xc1", "token", {"token": 5, "account_id": 5}, {"token": [], "expires_at": 1 << 63}]
)
def test_a_request_that_is_no_record_is_3(cell: CellUnderTest, function: str, request_: object) -> None:
    assert ask(cell, function, request_) == 3


@pytest.mark.parametrize("function", IMPORTS)
@pytest.mark.parametrize("words", HOSTILE_RANGES.values(), ids=HOSTILE_RANGES.keys())
def test_a_request_outside_memory_is_2(cell: CellUnderTest, function: str, words: tuple[int, int]) -> None:
    assert cell.run(function, *words, *OUTS) == 2


@pytest.mark.parametrize(("alloc", "code"), [("refuse", 7), ("outside", 8)])
def test_an_answer_without_a_place(pulp_cell: Callable[..., CellUnderTest], alloc: str, code: int) -> None:
    cell = pulp_cell(guest(capability(), alloc=alloc), declares=[NAME], settings={NAME: {"secret": SECRET}})

    assert ask(cell, "jwt_verify", {"token": token()}) == code


# The secret -------------------------------------------------------------------------------------------------------


def test_the_secret_is_the_operator_s_in_the_environment(puppets: Puppets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULP_JWT_HS256_SECRET", SECRET)
    monkeypatch.setenv("PULP_JWT_HS256_ISSUER", "https://id.example")
    one, two = puppets(NAME, IMPORTS, "one", "two")

    signed = one.ask("jwt_sign", {**SESSION, "expires_at": in_an_hour()})

    assert two.ask("jwt_verify", signed) == SESSION
    assert jwt.decode(signed["token"], SECRET, ["HS256"], audience=NAME)["iss"] == "https://id.example"
    assert two("jwt_verify", {"token": token()})[0] == 5


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_secret_may_stand_in_a_file(puppets: Puppets, tmp_path: Path, end: str) -> None:
    (tmp_path / "secret").write_bytes(SECRET.encode() + end.encode())
    (one,) = puppets(NAME, IMPORTS, config={NAME: {"secret_file": str(tmp_path / "secret")}})

    assert one.ask("jwt_verify", {"token": token()}) == SESSION


def test_a_file_that_cannot_be_read_stops_the_host(pulp_env: FakeHost) -> None:
    with pytest.raises(Exception, match="secret_file /nowhere: No such file"):
        Jwt().setup(pulp_env(NAME, config={"secret_file": "/nowhere"}))


@pytest.mark.parametrize("secret", ["", "x" * 31])
def test_a_secret_that_is_too_short_is_99_for_every_call(pulp_cell: Callable[..., CellUnderTest], secret: str) -> None:
    cell = pulp_cell(guest(capability()), declares=[NAME], settings={NAME: {"secret": secret}})

    assert ask(cell, "jwt_sign", {**SESSION, "expires_at": in_an_hour()}) == 99
    assert ask(cell, "jwt_verify", {"token": token()}) == 99
    assert [record.message for record in cell.logged] == ["no tokens will be signed or verified", "capability ready"]


def test_32_bytes_are_enough(pulp_cell: Callable[..., CellUnderTest]) -> None:
    cell = pulp_cell(guest(capability()), declares=[NAME], settings={NAME: {"secret": "é" * 16}})

    assert ask(cell, "jwt_verify", {"token": token(secret="é" * 16)}) == SESSION


@pytest.mark.parametrize("function", IMPORTS)
def test_without_the_capability_every_function_is_99(pulp_cell: Callable[..., CellUnderTest], function: str) -> None:
    assert ask(pulp_cell(guest(IMPORTS)), function, {"token": token()}) == 99


def test_threat_44_the_secret_is_in_no_log_no_error_and_no_text(
    cell: CellUnderTest, pulp_env: FakeHost, capfd: pytest.CaptureFixture[str]
) -> None:
    ask(cell, "jwt_sign", {**SESSION, "expires_at": 0})
    ask(cell, "jwt_verify", {"token": token(secret=SECRET + "x")})
    with pytest.raises(Exception, match="unknown field") as raised:
        Jwt().setup(pulp_env(NAME, config={"secret": SECRET, "sekret": SECRET}))

    told = [*cell.logged, *pulp_env.logged, raised.value, JwtSettings(secret=SECRET), capfd.readouterr()]
    assert not isinstance(raised.value, HookFailed)
    assert SECRET not in " ".join(map(repr, told))
    assert SECRET.encode() not in cell.read(0, 65_536)

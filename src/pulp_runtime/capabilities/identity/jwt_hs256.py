"""`identity.jwt.hs256`: sign and verify session tokens with the host's secret (spec/capabilities §18, RFC 7519).

The secret never reaches a cell, a log or an error; what is wrong with a token is for the operator's log alone.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import jwt
import msgspec

from pulp_runtime.abi.jwt import JwtSession, JwtSign, JwtToken
from pulp_runtime.capabilities.operator import Variable, operator_settings
from pulp_runtime.ext import Capability, CellRef, Errno, ExtensionError, HostError, SetupEnv, host_function

NAME: Final = "identity.jwt.hs256"
ALGORITHM: Final = "HS256"
INVALID: Final = 5
"""The token is not valid, or not any more."""
MIN_SECRET_BYTES: Final = 32
"""As many as the hash has (RFC 7518 §3.2)."""
MAX_TOKEN_BYTES: Final = 8192
MAX_ID_BYTES: Final = 1024
_MAX_SECRET_FILE: Final = 65_536
_LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999: later times are a mistake, and no library reads them."""


class JwtSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator may set.

    Attributes:
        secret: the key, at least 32 bytes of UTF-8.
        secret_file: a file that holds it instead; a newline at its end does not count.
        issuer: what tokens say under `iss`; others are not valid.
    """

    secret: str = ""
    secret_file: str = ""
    issuer: str = __name__

    def __repr__(self) -> str:
        return f"JwtSettings(issuer={self.issuer!r})"  # never the secret


VARIABLES: Final = {
    "secret": Variable("PULP_JWT_HS256_SECRET"),
    "secret_file": Variable("PULP_JWT_HS256_SECRET_FILE"),
    "issuer": Variable("PULP_JWT_HS256_ISSUER"),
}


class Jwt:
    """Signs and verifies."""

    def __init__(self) -> None:
        self._secret = b""
        self._issuer = __name__

    @host_function
    def jwt_sign(self, cell: CellRef, request: JwtSign | None) -> JwtToken:
        """Sign a token for a session.

        Answers 3 for an empty request, 4 for a session without an account, without an id or without a time to come, 99
        while the host has no secret.
        """
        secret = self._ready()
        if request is None:
            raise HostError(Errno.DECODE)
        now = int(time.time())
        expires = request.expires_at // 1000  # a token never lives longer than it was meant to
        if not request.account_id or not request.session_id:
            raise HostError(Errno.FAILED, "account_id and session_id must not be empty")
        if max(len(request.account_id.encode()), len(request.session_id.encode())) > MAX_ID_BYTES:
            raise HostError(Errno.FAILED, f"account_id and session_id must not be longer than {MAX_ID_BYTES} bytes")
        if not now < expires <= _LAST_SECOND:
            cell.log.warning(
                "token not signed", reason="expires_at is not in the future", expires_at=request.expires_at
            )
            raise HostError(Errno.FAILED, "expires_at is not in the future")
        claims = {
            "iss": self._issuer,
            "aud": NAME,
            "iat": now,
            "exp": expires,
            "account_id": request.account_id,
            "session_id": request.session_id,
        }
        return JwtToken(token=jwt.encode(claims, secret, algorithm=ALGORITHM))

    @host_function
    def jwt_verify(self, cell: CellRef, request: JwtToken | None) -> JwtSession:
        """Say whom a token is for.

        Answers 3 for an empty request, 5 for a token that is not ours, is not valid any more or has been changed, 99
        while the host has no secret.
        """
        secret = self._ready()
        if request is None:
            raise HostError(Errno.DECODE)
        try:
            claims = self._claims(request.token, secret)
            return JwtSession(account_id=_words(claims, "account_id"), session_id=_words(claims, "session_id"))
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            cell.log.debug("token refused", reason=f"{type(error).__name__}: {error}")
            raise HostError(INVALID, type(error).__name__) from None

    def _claims(self, token: str, secret: bytes) -> dict[str, Any]:
        if len(token) > MAX_TOKEN_BYTES:
            raise ValueError("too long")
        if "crit" in jwt.get_unverified_header(token):  # it asks for what nobody here understands (RFC 7515 §4.1.11)
            raise ValueError("it has critical headers")
        required = ["exp", "iss", "aud", "account_id", "session_id"]
        claims: dict[str, Any] = jwt.decode(
            token, secret, [ALGORITHM], options={"require": required}, audience=NAME, issuer=self._issuer
        )
        return claims

    def _ready(self) -> bytes:
        if not self._secret:
            raise HostError(Errno.UNDECLARED, "the host has no secret")
        return self._secret

    def setup(self, env: SetupEnv) -> None:
        """Take the secret; without one of at least 32 bytes every call answers 99."""
        settings = operator_settings(env, JwtSettings, VARIABLES)
        secret = (
            _read(settings.secret_file) if settings.secret_file and not settings.secret else settings.secret.encode()
        )
        self._issuer = settings.issuer
        if len(secret) < MIN_SECRET_BYTES:
            env.logger.warning(
                "no tokens will be signed or verified",
                reason=f"PULP_JWT_HS256_SECRET has {len(secret)} bytes, it needs {MIN_SECRET_BYTES}",
            )
            return
        self._secret = secret

    def teardown(self) -> None:
        """Forget the secret."""
        self._secret = b""


def _read(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(_MAX_SECRET_FILE).removesuffix(b"\n").removesuffix(b"\r")
    except OSError as error:
        raise ExtensionError(f"secret_file {path}: {error.strerror}") from None


def _words(claims: dict[str, Any], name: str) -> str:
    value = claims[name]
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is no text")
    return value


def capability() -> Capability:
    """Return the capability."""
    return Capability.of(NAME, Jwt())

"""Records of `identity.jwt.hs256`: whom a token is for, and the token."""

from __future__ import annotations

from typing import Annotated

import msgspec

I64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]


class JwtSign(msgspec.Struct, kw_only=True, frozen=True):
    """What a token is to say.

    Attributes:
        account_id: whose it is.
        session_id: the log-in that it belongs to.
        expires_at: milliseconds since 1970.
    """

    account_id: str = ""
    session_id: str = ""
    expires_at: I64 = 0


class JwtToken(msgspec.Struct, kw_only=True, frozen=True):
    """A token.

    Attributes:
        token: in the compact form, three parts with dots between them.
    """

    token: str = ""


class JwtSession(msgspec.Struct, kw_only=True, frozen=True):
    """What a valid token says.

    Attributes:
        account_id: whose it is.
        session_id: the log-in that it belongs to.
    """

    account_id: str
    session_id: str

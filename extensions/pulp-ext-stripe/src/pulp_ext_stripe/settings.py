"""What the operator says: the host's settings first, then the environment."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec
from pulp_runtime.ext import ExtensionError

NAME: Final = "payment.stripe"
API_BASE: Final = "https://api.stripe.com"
_LIMIT = Annotated[int, msgspec.Meta(ge=0, le=999_999_999_999)] | None


class Secret(str):
    """Text that is not written anywhere by accident: its `repr` is not what it holds."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'…'"


class Given(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `Host(config={"payment.stripe": {...}})` may say; the environment says the rest.

    Attributes:
        secret_key: `STRIPE_SECRET_KEY`.
        webhook_secret: `STRIPE_WEBHOOK_SECRET`.
        max_charge_cents: `STRIPE_MAX_CHARGE_CENTS`: the most that one charge may take; 0 is no limit.
        max_refund_cents: `STRIPE_MAX_REFUND_CENTS`: the most that one refund may give back; 0 is no limit.
        api_base: `STRIPE_API_BASE`: where Stripe is.
    """

    secret_key: str = ""
    webhook_secret: str = ""
    max_charge_cents: _LIMIT = None
    max_refund_cents: _LIMIT = None
    api_base: str = ""


class Settings(msgspec.Struct, frozen=True):
    """An account, and what cells may do with it. Either secret may be missing: then what needs it answers 10."""

    secret_key: Secret
    webhook_secret: Secret
    max_charge_cents: int
    max_refund_cents: int
    api_base: str


def read_settings(config: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    """Return the settings.

    Raises:
        ExtensionError: something cannot be used; no secret is in the message.
    """
    try:
        given = msgspec.convert(config, Given)
    except msgspec.ValidationError as error:
        raise ExtensionError(f"{NAME}: {error}") from None
    return Settings(
        Secret(given.secret_key or environment.get("STRIPE_SECRET_KEY", "").strip()),
        Secret(given.webhook_secret or environment.get("STRIPE_WEBHOOK_SECRET", "").strip()),
        _limit(given.max_charge_cents, "STRIPE_MAX_CHARGE_CENTS", environment),
        _limit(given.max_refund_cents, "STRIPE_MAX_REFUND_CENTS", environment),
        _base(given.api_base or environment.get("STRIPE_API_BASE", "").strip() or API_BASE),
    )


def _limit(given: int | None, variable: str, environment: Mapping[str, str]) -> int:
    if given is not None:
        return given
    text = environment.get(variable, "").strip() or "0"
    if not (text.isascii() and text.isdecimal() and len(text) <= 12):
        raise ExtensionError(f"{variable} is {text[:32]!r}; write a whole number of cents, or 0 for no limit")
    return int(text)


def _base(address: str) -> str:
    """Return where Stripe is: over TLS, or on this machine."""
    wrong = "STRIPE_API_BASE is not https://host[:port]; without TLS only this machine can be meant"
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018  # raises when it is none
    except ValueError:
        raise ExtensionError(wrong) from None
    alone = not (parts.username or parts.password or parts.query or parts.fragment or parts.path.strip("/"))
    safe = parts.scheme == "https" or (parts.scheme == "http" and _here(parts.hostname or ""))
    if not (safe and alone and parts.hostname):
        raise ExtensionError(wrong)
    return f"{parts.scheme}://{parts.netloc}"


def _here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

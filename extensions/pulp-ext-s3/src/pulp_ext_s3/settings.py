"""What the operator says about the bucket: the host's settings first, then the environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from pulp_runtime.ext import ExtensionError

_VARIABLES: Final = {
    "account_id": "ACCOUNT_ID",
    "access_key_id": "ACCESS_KEY_ID",
    "secret_access_key": "SECRET_ACCESS_KEY",
    "bucket": "BUCKET",
    "endpoint": "ENDPOINT",
    "region": "REGION",
}
_PREFIXES: Final = ("S3_", "R2_")
_TRUE: Final = ("1", "true", "yes", "on")


class Secret(str):
    """Text that is not written anywhere by accident: its `repr` is not what it holds."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'…'"


class Given(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `Host(config={"storage.s3": {...}})` may say; the environment says the rest.

    Attributes:
        account_id: of Cloudflare R2; gives the endpoint where none is named.
        access_key_id: who signs.
        secret_access_key: what with.
        bucket: the one bucket that cells see.
        endpoint: `http(s)://host[:port]` of the store.
        region: what requests are signed for; "auto" suits stores that have none.
        isolate: each cell sees only keys under its own name.
    """

    account_id: str = ""
    access_key_id: str = ""
    secret_access_key: str = ""
    bucket: str = ""
    endpoint: str = ""
    region: str = ""
    isolate: bool | None = None


class CellSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a cell's manifest may say under `[settings."storage.s3"]`.

    Attributes:
        prefix: put before every key of the cell, and taken off again in lists.
    """

    prefix: str = ""


class Settings(msgspec.Struct, frozen=True):
    """A bucket, and how to reach it."""

    endpoint: str
    bucket: str
    access_key_id: str
    secret_access_key: Secret
    region: str
    isolate: bool


def read_settings(config: Mapping[str, Any], environment: Mapping[str, str]) -> Settings | list[str]:
    """Return the settings, or the names of the variables that are missing.

    Args:
        config: the operator's settings; each wins over its variable.
        environment: `S3_…`, and `R2_…` where that is not set.

    Raises:
        ExtensionError: a setting that does not exist or cannot be used; no value is in the message.
    """
    try:
        given = msgspec.convert(config, Given)
    except msgspec.ValidationError as error:
        raise ExtensionError(f"storage.s3: {error}") from None
    found = {name: getattr(given, name) or _variable(tail, environment) for name, tail in _VARIABLES.items()}
    if not found["endpoint"] and found["account_id"]:
        found["endpoint"] = f"https://{found['account_id']}.r2.cloudflarestorage.com"
    missing = [
        f"S3_{_VARIABLES[name]}"
        for name in ("endpoint", "bucket", "access_key_id", "secret_access_key")
        if not found[name]
    ]
    if missing:
        return missing
    isolate = given.isolate
    if isolate is None:
        isolate = environment.get("S3_ISOLATE", "").strip().lower() in _TRUE
    return Settings(
        _checked(found["endpoint"]),
        found["bucket"],
        found["access_key_id"],
        Secret(found["secret_access_key"]),
        found["region"] or "auto",
        isolate,
    )


def _variable(tail: str, environment: Mapping[str, str]) -> str:
    values = (environment.get(prefix + tail, "").strip() for prefix in _PREFIXES)
    return next((value for value in values if value), "")


def _checked(endpoint: str) -> str:
    wrong = "S3_ENDPOINT is not http(s)://host[:port]; give the store's address alone, without bucket and credentials"
    try:
        parts = urlsplit(endpoint)
        parts.port  # noqa: B018  # raises when it is none
    except ValueError:
        raise ExtensionError(wrong) from None
    alone = not (parts.username or parts.password or parts.query or parts.fragment or parts.path.strip("/"))
    if parts.scheme not in ("http", "https") or not parts.hostname or not alone:
        raise ExtensionError(wrong)
    return f"{parts.scheme}://{parts.netloc}"

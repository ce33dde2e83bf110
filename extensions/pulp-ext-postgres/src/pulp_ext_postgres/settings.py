"""What the operator says about the server: the host's settings first, then the environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from psycopg import conninfo
from psycopg.errors import Error as PsycopgError
from pulp_runtime.ext import ExtensionError

NAME: Final = "storage.sqlite"
_TRUE: Final = ("1", "true", "yes", "on")


class Given(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `Host(config={"storage.sqlite": {...}})` may say; the environment says the rest.

    Attributes:
        url: `DATABASE_URL`: a connection URL, or libpq's `key=value` form.
        isolate: `STORAGE_POSTGRES_ISOLATE`: a schema and a login for each cell.
        shared_schema: `STORAGE_POSTGRES_SHARED_SCHEMA`: where all cells work that are not kept apart; `public`.
        allow_superuser: `STORAGE_POSTGRES_ALLOW_SUPERUSER`: let cells that are not kept apart work as a login that
            may run programs on the server and read its files.
    """

    url: str = ""
    isolate: bool | None = None
    shared_schema: str = ""
    allow_superuser: bool | None = None


class Settings(msgspec.Struct, frozen=True):
    """A server, and how cells share it. `conninfo` holds the password: it is shown nowhere."""

    conninfo: bytes
    isolate: bool
    shared_schema: str
    allow_superuser: bool

    def __repr__(self) -> str:
        return f"Settings(isolate={self.isolate}, shared_schema={self.shared_schema!r})"


def read_settings(config: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    """Return the settings.

    Raises:
        ExtensionError: there is no URL, or something cannot be used; no value is in the message.
    """
    try:
        given = msgspec.convert(config, Given)
    except msgspec.ValidationError as error:
        raise ExtensionError(f"{NAME}: {error}") from None
    url = given.url or environment.get("DATABASE_URL", "").strip()
    if not url:
        raise ExtensionError("DATABASE_URL is not set; give it the address of a PostgreSQL database")
    try:
        parts: dict[str, Any] = dict(conninfo.conninfo_to_dict(url))
    except PsycopgError:  # its text repeats the URL, the password included
        raise ExtensionError(
            "DATABASE_URL is no connection URL; write postgresql://user:password@host:port/database"
        ) from None
    parts.setdefault("application_name", "pulp")
    parts["client_encoding"] = "UTF8"
    schema = given.shared_schema or environment.get("STORAGE_POSTGRES_SHARED_SCHEMA", "").strip() or "public"
    if len(schema.encode()) > 63 or "\0" in schema:
        raise ExtensionError("STORAGE_POSTGRES_SHARED_SCHEMA is longer than 63 bytes; PostgreSQL would cut it")
    return Settings(
        conninfo.make_conninfo(**parts).encode(),
        _flag(given.isolate, "STORAGE_POSTGRES_ISOLATE", environment),
        schema,
        _flag(given.allow_superuser, "STORAGE_POSTGRES_ALLOW_SUPERUSER", environment),
    )


def _flag(given: bool | None, variable: str, environment: Mapping[str, str]) -> bool:
    return environment.get(variable, "").strip().lower() in _TRUE if given is None else given

"""Whose schema, and whose login, a cell's connection has.

Shared, which is what the contract says where nothing else is said: every cell works as the operator's login, in one
schema. Kept apart: every cell has a schema of its own and a login of its own that owns nothing else. A schema alone
would be no wall, for any statement may name another one, and `SET ROLE` can be taken back; a session that began as
another login cannot.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from psycopg import conninfo
from psycopg.pq import ExecStatus
from pulp_runtime.ext import ExtensionError

from pulp_ext_postgres.settings import Settings
from pulp_ext_postgres.wire import Broken, Patience, Wire

LOCK_SECONDS: Final = 5
"""How long a statement waits for a lock before it is answered 12, as with SQLite's `busy_timeout`."""
_MIGHTY: Final = """
    SELECT 1 FROM pg_roles WHERE rolname = current_user AND (
        rolsuper
        OR pg_has_role('pg_execute_server_program', 'MEMBER')
        OR pg_has_role('pg_read_server_files', 'MEMBER')
        OR pg_has_role('pg_write_server_files', 'MEMBER')
    )
"""
"""Answers a row to a login that may run programs on the server, or read and write its files."""
_MOST_NAME_BYTES: Final = 63


class Room:
    """Where one cell works.

    Args:
        settings: the operator's.
        cell: its name.
    """

    def __init__(self, settings: Settings, cell: str) -> None:
        self._settings: Final = settings
        self._cell: Final = cell
        self.schema: Final = schema_of(cell) if settings.isolate else settings.shared_schema
        self._conninfo = settings.conninfo

    def enter(self, deadline: float) -> Wire:
        """Return a new connection, ready for statements of the cell.

        Raises:
            Broken: the server cannot be reached, or refuses the login.
            ExtensionError: what the operator set up does not allow it; the text says what to change.
        """
        wire = self._own(deadline) if self._settings.isolate else self._shared(deadline)
        try:
            ask(wire, f"SET search_path TO {_name(self.schema)}", deadline)
            ask(wire, f"SET lock_timeout = '{LOCK_SECONDS}s'", deadline)
            ask(wire, "SET TimeZone = 'UTC'", deadline)
        except BaseException:
            wire.close()
            raise
        return wire

    # Shared -----------------------------------------------------------------------------------------------------

    def _shared(self, deadline: float) -> Wire:
        wire = Wire(self._conninfo, deadline)
        try:
            if not self._settings.allow_superuser:
                _no_power_over_the_server(wire, deadline)
            if not _there(wire, "SELECT 1 FROM pg_namespace WHERE nspname = ", self.schema, deadline):
                ask(wire, f"CREATE SCHEMA IF NOT EXISTS {_name(self.schema)}", deadline)
        except BaseException:
            wire.close()
            raise
        return wire

    # Kept apart -------------------------------------------------------------------------------------------------

    def _own(self, deadline: float) -> Wire:
        """Log in as the cell; make the login and the schema first if that does not work."""
        if self._conninfo is not self._settings.conninfo:
            return Wire(self._conninfo, deadline)
        operator = Wire(self._settings.conninfo, deadline)
        try:
            login = login_of(self._cell, operator.database)
            own = {"user": login}
            password = _password(operator.password, login)
            if password:
                own["password"] = password
            info = conninfo.make_conninfo(self._settings.conninfo.decode(), **own).encode()
            self._make_login(operator, login, password, deadline)
            self._make_schema(operator, login, deadline)
        finally:
            operator.close()
        try:
            wire = Wire(info, deadline)
        except Broken as error:
            raise ExtensionError(
                f"the login {login} of cell {self._cell} is refused; let pg_hba.conf admit logins with a password "
                f"(scram-sha-256), or unset STORAGE_POSTGRES_ISOLATE: {error}"
            ) from None
        self._conninfo = info
        return wire

    def _make_login(self, operator: Wire, login: str, password: str, deadline: float) -> None:
        # What is sent is not the password but what the server keeps of it, for statements may be logged.
        kept = operator.verifier(password.encode(), login.encode()).decode() if password else ""
        rights = f"LOGIN PASSWORD {_quoted(kept) if kept else 'NULL'}"
        if not _there(operator, "SELECT 1 FROM pg_roles WHERE rolname = ", login, deadline):
            self._ask(operator, f"CREATE ROLE {_name(login)} NOSUPERUSER NOCREATEDB NOCREATEROLE {rights}", deadline)
            self._ask(operator, f"COMMENT ON ROLE {_name(login)} IS {_quoted(f'Pulp cell {self._cell}')}", deadline)
        else:
            self._ask(operator, f"ALTER ROLE {_name(login)} {rights}", deadline)
        database = operator.database.decode()
        self._ask(operator, f"GRANT CONNECT, TEMPORARY ON DATABASE {_name(database)} TO {_name(login)}", deadline)

    def _make_schema(self, operator: Wire, login: str, deadline: float) -> None:
        if _there(operator, "SELECT 1 FROM pg_namespace WHERE nspname = ", self.schema, deadline):
            return
        # To give a schema to a login, one has to be a member of it.
        self._ask(operator, f"GRANT {_name(login)} TO CURRENT_USER", deadline)
        self._ask(operator, f"CREATE SCHEMA {_name(self.schema)} AUTHORIZATION {_name(login)}", deadline)

    def _ask(self, operator: Wire, sql: str, deadline: float) -> None:
        try:
            ask(operator, sql, deadline)
        except Broken as error:
            raise ExtensionError(
                f"cell {self._cell} cannot be given a schema of its own: {error}; the login of DATABASE_URL needs "
                "CREATEROLE, and CREATE on the database"
            ) from None


def schema_of(cell: str) -> str:
    """Return the name of a cell's schema; no two cells have the same."""
    name = f"cell_{cell}"
    if len(name) <= _MOST_NAME_BYTES:
        return name
    # A cell's name has no "~": no shorter one can look like this.
    return f"{name[:46]}~{hashlib.sha256(cell.encode()).hexdigest()[:16]}"


def login_of(cell: str, database: bytes) -> str:
    """Return the name of a cell's login. Logins belong to the whole server, so the database is part of it."""
    return f"pulp_cell_{hashlib.sha256(database + bytes(1) + cell.encode()).hexdigest()[:32]}"


def _password(operators: bytes, login: str) -> str:
    """Return the password of a login: every host with the operator's finds the same, and nobody else does."""
    if not operators:
        return ""
    return hmac.new(operators, f"pulp-ext-postgres:{login}".encode(), hashlib.sha256).hexdigest()


def ask(wire: Wire, sql: str, deadline: float) -> bool:
    """Run a statement of ours; return whether it had rows.

    Raises:
        Broken: it failed.
    """
    found: list[int] = []
    result = wire.run(sql.encode(), [], Patience(deadline, deadline), rows=lambda some: found.append(some.ntuples))
    if result.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
        raise Broken(" ".join(result.get_error_message().split()))
    return bool(found)


def _there(wire: Wire, question: str, name: str, deadline: float) -> bool:
    return ask(wire, f"{question}{_quoted(name)}", deadline)


def _no_power_over_the_server(wire: Wire, deadline: float) -> None:
    """Refuse a login with which a cell could run programs on the server."""
    if ask(wire, _MIGHTY, deadline):
        raise ExtensionError(
            "DATABASE_URL logs in as a superuser, and a cell could run programs on the server: use another login, "
            "set STORAGE_POSTGRES_ISOLATE=1, or accept it with STORAGE_POSTGRES_ALLOW_SUPERUSER=1"
        )


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

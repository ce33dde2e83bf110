"""Who sees what: one schema for all, or a schema and a login for each."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pulp_runtime.ext import ExtensionError
from pulp_runtime.testing import CellUnderTest, FakeHost, guest

from conftest import NAME, PASSWORD, Caller, Cluster
from pulp_ext_postgres.database import Database, make
from pulp_ext_postgres.rooms import login_of, schema_of
from pulp_ext_postgres.settings import read_settings

Make = Callable[..., Caller]


@pytest.fixture
def apart(make_cell: Make, cluster: Cluster) -> Iterator[Make]:
    """Return `apart(name)`: a cell that is kept apart from the others."""
    yield lambda name, **more: make_cell({"isolate": True, **more}, name=name)
    owned = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'cell\\_%'"
    for (schema,) in cluster.sql(owned):
        cluster.sql(f'DROP SCHEMA "{schema}" CASCADE')
    for (role,) in cluster.sql("SELECT rolname FROM pg_roles WHERE rolname LIKE 'pulp\\_cell\\_%'"):
        cluster.sql(f'DROP OWNED BY "{role}"', f'DROP ROLE "{role}"')


def test_cells_share_a_schema_unless_they_are_kept_apart_and_it_is_said(make_cell: Make, cluster: Cluster) -> None:
    database = Database({})
    env = FakeHost()
    with env:
        database.setup(env(NAME, config={"url": cluster.url, "shared_schema": "test_common"}))
        one, two = (cell_of(name) for name in ("one", "two"))
        database.admit(one, {})
        assert not told(one)
        database.admit(two, {})
        assert told(two) == ["cells share one schema; STORAGE_POSTGRES_ISOLATE=1 keeps them apart"]
        database.teardown()


def cell_of(name: str) -> Any:
    from pulp_runtime.ext import CellRef

    class Log:
        def __init__(self) -> None:
            self.messages: list[str] = []

        def warning(self, message: str, **_fields: object) -> None:
            self.messages.append(message)

    return CellRef(name, name, Log())  # type: ignore[arg-type]


def told(cell: Any) -> list[str]:
    return list(cell.log.messages)


def test_a_version_that_is_not_adopted_leaves_the_connection_of_the_one_before(cluster: Cluster) -> None:
    database = Database({})
    with FakeHost() as env:
        database.setup(env(NAME, config={"url": cluster.url, "shared_schema": "test_swap"}))
        for adopted in (False, True):
            database.admit(cell_of("one"), {})
            before = database._open["one"]
            database.swap_begin("one")
            database.admit(cell_of("one"), {"sqlite_exec": 4})
            after = database._open["one"]
            database.swap_end("one", adopted)

            kept, closed = (after, before) if adopted else (before, after)
            assert database._open["one"] is kept
            assert kept.session._wire is not None
            assert closed.session._wire is None
        database.teardown()


def test_two_placements_of_one_cell_have_two_schemas(cluster: Cluster) -> None:
    assert schema_of("shop@a") != schema_of("shop@b") != schema_of("shop")


def test_threat_47_a_cell_finds_nothing_of_another_kept_apart(apart: Make) -> None:
    one, two = apart("one"), apart("two")
    one.done("CREATE TABLE secrets (v TEXT)", "INSERT INTO secrets VALUES ('canary-row')")

    assert two.query("SELECT * FROM secrets").code == 5
    seen = two.rows("SELECT query FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    assert "canary-row" not in str(seen)
    two.done("CREATE TABLE secrets (v TEXT)")
    assert two.rows("SELECT * FROM secrets") == []
    assert one.rows("SELECT * FROM secrets") == [["canary-row"]]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM cell_one.secrets",
        "SET search_path TO cell_one; SELECT * FROM secrets",
        "DROP TABLE cell_one.secrets",
        "DROP SCHEMA cell_one CASCADE",
        "CREATE TABLE cell_one.mine (n INTEGER)",
        "SET ROLE {one}",
        "SET ROLE app",
        "SET SESSION AUTHORIZATION app",
        "RESET ROLE; SELECT * FROM cell_one.secrets",
        "RESET SESSION AUTHORIZATION; SELECT * FROM cell_one.secrets",
        "SELECT set_config('role', 'app', false)",
        "DO $$ BEGIN EXECUTE 'SET ROLE {one}'; END $$",
        "GRANT {one} TO CURRENT_USER",
        "ALTER ROLE {one} PASSWORD 'mine'",
        "ALTER ROLE CURRENT_USER SUPERUSER",
        "CREATE ROLE mine",
        "CREATE DATABASE mine",
        "CREATE EXTENSION dblink",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_ls_dir('/')",
        "SELECT lo_import('/etc/passwd')",
        "ALTER SYSTEM SET fsync = off",
        "SELECT rolpassword FROM pg_authid",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = replace('{one}', '\"', '')",
        "CREATE TABLE public.mine (n INTEGER)",
    ],
)
def test_threat_47_a_cell_kept_apart_cannot_leave_its_schema(apart: Make, cluster: Cluster, statement: str) -> None:
    one, two = apart("one"), apart("two")
    one.done("CREATE TABLE secrets (v TEXT)", "INSERT INTO secrets VALUES ('canary-row')")

    answer = two.query(statement.replace("{one}", f'"{login_of("one", b"cells")}"'))

    assert answer.code == 5, answer.value
    assert "canary-row" not in str(answer.value)
    assert one.rows("SELECT * FROM secrets") == [["canary-row"]]


def test_a_cell_kept_apart_finds_its_own_again(apart: Make) -> None:
    apart("one").done("CREATE TABLE t (n INTEGER)", "INSERT INTO t VALUES (7)")

    assert apart("one").rows("SELECT n FROM t") == [[7]]


def test_the_operators_password_is_not_the_cells_and_neither_is_sent_in_clear(apart: Make, cluster: Cluster) -> None:
    cluster.sql("ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()")
    try:
        one = apart("one")
    finally:
        cluster.sql("ALTER SYSTEM RESET log_statement", "SELECT pg_reload_conf()")

    log = (cluster.folder / "log").read_text()
    assert one.rows("SELECT current_user = session_user AND current_user <> 'app'") == [[1]]
    assert "CREATE ROLE" in log
    assert "SCRAM-SHA-256$" in log
    assert PASSWORD not in log
    own = one.database._open["one"].session._wire
    assert own is not None
    assert own.password
    assert own.password.decode() not in log


def test_a_login_that_may_not_make_logins_is_refused_with_what_it_lacks(make_cell: Make, cluster: Cluster) -> None:
    cluster.sql(f"CREATE ROLE plain LOGIN PASSWORD '{PASSWORD}'")
    try:
        with pytest.raises(Exception, match=r"the login of DATABASE_URL needs CREATEROLE") as caught:
            make_cell({"url": cluster.url.replace("app", "plain", 1), "isolate": True})
    finally:
        cluster.sql("DROP ROLE plain")
    assert PASSWORD not in str(caught.value)


def test_a_superuser_is_not_handed_to_cells(make_cell: Make, cluster: Cluster) -> None:
    with pytest.raises(Exception, match="DATABASE_URL logs in as a superuser"):
        make_cell({"url": cluster.mighty})
    assert make_cell({"url": cluster.mighty, "allow_superuser": True}).rows("SELECT 1") == [[1]]


def test_a_login_that_may_run_programs_is_one_too(make_cell: Make, cluster: Cluster) -> None:
    cluster.sql(f"CREATE ROLE runs LOGIN PASSWORD '{PASSWORD}'", "GRANT pg_execute_server_program TO runs")
    try:
        with pytest.raises(Exception, match="DATABASE_URL logs in as a superuser"):
            make_cell({"url": cluster.url.replace("app", "runs", 1), "shared_schema": "public"})
    finally:
        cluster.sql("DROP ROLE runs")


def test_kept_apart_even_a_superusers_cells_are_ordinary(apart: Make, cluster: Cluster) -> None:
    one = apart("one", url=cluster.mighty)

    assert one.rows("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == [[0]]


# Names --------------------------------------------------------------------------------------------------------------


def test_no_two_cells_have_the_same_schema_or_login() -> None:
    names = ["a", "a-b", "a_b", "b" * 58, "b" * 59, "b" * 63, "b" * 62 + "c"]
    digest = hashlib.sha256(("b" * 59).encode()).hexdigest()[:16]
    names.append("b" * 41 + "-" + digest)

    assert len({schema_of(name) for name in names}) == len(names)
    assert max(len(schema_of(name)) for name in names) <= 63
    assert len({login_of(name, database) for name in names for database in (b"x", b"y")}) == 2 * len(names)


# Settings -----------------------------------------------------------------------------------------------------------


def test_the_environment_is_enough() -> None:
    settings = read_settings(
        {},
        {
            "DATABASE_URL": "postgres://u:p@h:5433/d",
            "STORAGE_POSTGRES_ISOLATE": "true",
            "STORAGE_POSTGRES_SHARED_SCHEMA": "pulp",
        },
    )

    assert (settings.isolate, settings.shared_schema, settings.allow_superuser) == (True, "pulp", False)
    assert b"host=h port=5433" in settings.conninfo


def test_the_hosts_settings_win_and_the_schema_is_public_by_default() -> None:
    settings = read_settings({"url": "host=h", "isolate": False}, {"STORAGE_POSTGRES_ISOLATE": "1"})

    assert (settings.isolate, settings.shared_schema) == (False, "public")


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "DATABASE_URL is not set"),
        ({"url": f"postgresql://u:{PASSWORD}@h:port/%zz"}, "DATABASE_URL is no connection URL"),
        ({"url": PASSWORD}, "DATABASE_URL is no connection URL"),
        ({"uri": PASSWORD}, "storage.sqlite: "),
        ({"url": "host=h", "shared_schema": "s" * 64}, "longer than 63 bytes"),
    ],
)
def test_threat_44_a_setting_that_is_wrong_is_refused_and_no_password_repeated(
    config: dict[str, Any], told: str
) -> None:
    with pytest.raises(ExtensionError, match=told) as caught:
        read_settings(config, {})

    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None


def test_threat_44_the_password_is_in_no_log_no_answer_and_no_memory_of_the_guest(
    make_cell: Make, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    db = make_cell()
    answers = [db.query("SELECT current_setting('application_name'), current_user"), db.query("SELECT 1/0")]
    cluster.end_sessions()
    answers.append(db.query("SELECT 1"))

    seen = "\n".join([caplog.text, repr(answers), *db.cell.transcript, *map(str, db.cell.logged)])
    assert PASSWORD not in seen + repr(db.database._settings)
    assert PASSWORD.encode() not in db.cell.read(0, db.cell.memory_bytes)


def test_threat_44_a_refused_login_names_no_password(pulp_cell: Callable[..., CellUnderTest], cluster: Cluster) -> None:
    one = make(Database({}))
    wrong = cluster.url.replace(PASSWORD, "canary-wrong")

    with pytest.raises(Exception, match="password authentication failed") as caught:
        pulp_cell(guest({"sqlite_exec": 6}), capabilities=[one], declares=[NAME], settings={NAME: {"url": wrong}})
    assert "canary-wrong" not in str(caught.value)


def test_a_server_that_is_not_there_fails_the_load(pulp_cell: Callable[..., CellUnderTest]) -> None:
    one = make(Database({}))
    settings = {NAME: {"url": "postgresql:///d?host=/nowhere"}}

    with pytest.raises(Exception, match=r"storage\.sqlite: no connection"):
        pulp_cell(guest({"sqlite_exec": 6}), capabilities=[one], declares=[NAME], settings=settings)


def test_without_an_address_the_host_does_not_start(pulp_cell: Callable[..., CellUnderTest]) -> None:
    one = make(Database({}))

    with pytest.raises(Exception, match="DATABASE_URL is not set"):
        pulp_cell(guest({"sqlite_exec": 6}), capabilities=[one], declares=[NAME])

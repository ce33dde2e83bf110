"""What is too slow, too long or gone."""

from __future__ import annotations

import hashlib
import resource
import time
from collections.abc import Callable

import msgspec
import pytest

from conftest import Caller, Cluster
from pulp_ext_postgres import rows
from pulp_ext_postgres.dialect import MOST_SQL_BYTES, translate
from pulp_ext_postgres.parameters import MOST_BYTES, Bound, ParameterError, read_parameters
from pulp_ext_postgres.session import MOST_RESULT_BYTES
from pulp_ext_postgres.wire import Patience

STOPPED = "stopped: the deadline of the call has passed"


@pytest.mark.slow
@pytest.mark.parametrize(
    "query",
    [
        pytest.param("SELECT pg_sleep(60)", id="sleeps"),
        pytest.param("WITH RECURSIVE r AS (SELECT 1 UNION ALL SELECT 1 FROM r) SELECT count(*) FROM r", id="recurses"),
        pytest.param(
            "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b", id="multiplies"
        ),
    ],
)
def test_threat_12_a_query_without_end_is_cancelled_before_the_deadline_of_the_call(
    make_cell: Callable[..., Caller], cluster: Cluster, query: str
) -> None:
    db = make_cell(call_timeout_ms=1000)
    began = time.monotonic()

    answer = db.query(query)

    assert answer.code == 5
    assert answer.value["error"].startswith(STOPPED)
    assert 0.7 < time.monotonic() - began < 1.0
    assert db.rows("SELECT 1") == [[1]]
    busy = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND usename = 'app'"
    while cluster.sql(busy) != [(0,)]:  # it must not run on where nobody sees it
        assert time.monotonic() - began < 10


@pytest.mark.slow
def test_threat_12_a_lock_that_is_never_free_is_given_up_before_the_deadline(make_cell: Callable[..., Caller]) -> None:
    one, two = make_cell({"shared_schema": "test_w"}), make_cell({"shared_schema": "test_w"}, call_timeout_ms=1000)
    one.done("CREATE TABLE t (n INTEGER)", "BEGIN", "LOCK TABLE t")

    assert two.exec("SELECT * FROM t").value["error"].startswith(STOPPED)


@pytest.mark.slow
def test_threat_13_more_rows_than_fit_are_an_error_and_not_the_end_of_the_host(db: Caller) -> None:
    began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    answer = db.query("SELECT generate_series(1, 1000000000)")

    assert answer.code == 5
    assert answer.value["error"].startswith(f"the rows have more than {MOST_RESULT_BYTES:,} bytes")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - began < 300_000
    assert db.rows("SELECT 1") == [[1]]


@pytest.mark.slow
def test_threat_13_a_row_of_hundreds_of_megabytes_is_never_read_whole(db: Caller) -> None:
    db.rows("SELECT repeat('x', 10000)")
    began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    answer = db.query("SELECT repeat('x', 400000000)")

    assert answer.code == 5
    assert answer.value["error"].endswith("the connection was closed, begin again")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - began < 120_000
    assert db.rows("SELECT 1") == [[1]], "on a new connection"


def test_a_result_up_to_the_bound_is_read(make_cell: Callable[..., Caller]) -> None:
    db = make_cell(alloc="refuse")

    assert db.query(f"SELECT repeat('x', {MOST_RESULT_BYTES - 6})").code == 7, "read; the guest has no room for it"
    assert db.query(f"SELECT repeat('x', {MOST_RESULT_BYTES})").code == 5


def test_a_query_has_a_bounded_length(db: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pulp_ext_postgres.database.MOST_SQL_BYTES", 64)

    assert db.query("SELECT 1" + " " * 56).code == 0
    told = db.query("SELECT 1" + " " * 57)
    assert (told.code, told.value["error"]) == (5, "the query has more than 64 bytes")
    assert MOST_SQL_BYTES == 1024 * 1024


def test_parameters_have_a_bounded_number_and_length(db: Caller) -> None:
    with pytest.raises(ParameterError, match="more than 65,535 parameters"):
        read_parameters(msgspec.msgpack.encode([None] * 65_536))
    with pytest.raises(ParameterError, match="more than 16,777,216 bytes"):
        read_parameters(msgspec.msgpack.encode([bytes(MOST_BYTES)]))
    assert len(read_parameters(msgspec.msgpack.encode([None] * 65_535))) == 65_535
    assert "numbers go from 1 to 65535" in db.query("SELECT ?65536").value["error"]


def test_parameters_of_megabytes_reach_the_server(db: Caller) -> None:
    session = db.database._open["guest"].session
    now = time.monotonic()
    text, data = Bound(b"z" * 9_000_000), Bound(bytes(range(256)) * 20_000, 17, 1)

    outcome = session.run(
        translate("SELECT length(CAST(? AS TEXT)), md5(?)"), [text, data], Patience(now + 20, now + 21)
    )[0]

    digest = hashlib.md5(data.value or b"", usedforsecurity=False).hexdigest()
    assert outcome.rows == [rows.array([rows.int64(9_000_000), rows.text(digest.encode())])]


def test_results_of_megabytes_come_back_whole(db: Caller) -> None:
    session = db.database._open["guest"].session
    now = time.monotonic()

    query = "SELECT n, repeat(md5(CAST(n AS TEXT)), 200) FROM generate_series(1, 2000) AS s(n)"
    outcome = session.run(translate(query), [], Patience(now + 20, now + 21))[0]

    digests = [hashlib.md5(b"%d" % n, usedforsecurity=False).hexdigest() * 200 for n in range(1, 2_001)]
    assert [msgspec.msgpack.decode(row) for row in outcome.rows] == [[n, text] for n, text in enumerate(digests, 1)]


# A connection that is gone ------------------------------------------------------------------------------------------


def test_a_connection_that_was_cut_is_made_anew(db: Caller, cluster: Cluster) -> None:
    db.done("CREATE TABLE t (n INTEGER)")
    cluster.end_sessions()

    assert db.rows("SELECT count(*) FROM t") == [[0]], "in the same schema"


def test_a_transaction_that_was_cut_is_not_gone_on_with(db: Caller, cluster: Cluster) -> None:
    db.done("CREATE TABLE t (n INTEGER)", "BEGIN", "INSERT INTO t VALUES (1)")
    cluster.end_sessions()

    told = db.exec("INSERT INTO t VALUES (2)")

    assert (told.code, told.value["error"]) == (
        5,
        "the connection was lost, and with it the transaction; begin again",
    )
    assert db.exec("COMMIT").code == 5
    assert db.rows("SELECT n FROM t") == []


def test_a_connection_that_is_cut_meanwhile_is_5(db: Caller) -> None:
    told = db.query("SELECT pg_terminate_backend(pg_backend_pid())")

    assert (told.code, told.value["error"]) == (5, "the connection to the database was lost")
    assert db.rows("SELECT 1") == [[1]]


@pytest.mark.slow
def test_without_a_server_there_is_no_database_and_later_there_is_again(db: Caller, cluster: Cluster) -> None:
    db.done("CREATE TABLE t (n INTEGER)")
    cluster.stop()

    assert db.query("SELECT 1") == (9, None, b"")
    assert db.query("SELECT 1").code == 9
    told = [record for record in db.cell.logged if record.message == "no database"]
    assert len(told) == 2
    assert "could not connect" in str(told[0].fields) or "No such file" in str(told[0].fields)

    cluster.start()
    assert db.rows("SELECT count(*) FROM t") == [[0]]


def test_notifications_are_not_kept(db: Caller) -> None:
    db.done("LISTEN news", "NOTIFY news, 'x'", "SELECT 1", "SELECT 1")

    session = db.database._open["guest"].session
    assert session._wire is not None
    assert session._wire._pg.notifies() is None


def test_notices_go_nowhere(db: Caller, capfd: pytest.CaptureFixture[str]) -> None:
    db.done("DO $$ BEGIN RAISE NOTICE 'to the terminal'; END $$")

    assert capfd.readouterr() == ("", "")

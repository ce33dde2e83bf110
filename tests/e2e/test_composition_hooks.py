"""The host's own program: observers, access to cells, operator commands (spec/core §5.7, §7.9, §7.10)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pulp_runtime
from pulp_runtime import ApplicationIdentity, Composition, Host, OperatorCommand, ProviderAccess, StartError
from pulp_runtime.errors import CallRefused, CellTrap, ExtensionError, OperatorCommandError, PulpError
from pulp_runtime.hosting import application, commands, lifecycle
from pulp_runtime.hosting.commands import MOST_REQUEST_BYTES, OperatorCommands

from .compose import FUNCTIONS, Estate, applications, do

A = ApplicationIdentity("a", "a-1")


@pytest.fixture
def estate(tmp_path: Path, wasm: Callable[[str], bytes]) -> Estate:
    return Estate(tmp_path, wasm)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[OperatorCommands]:
    """A process in which nobody has registered anything."""
    own = OperatorCommands()
    monkeypatch.setattr(commands, "operator_commands", own)
    monkeypatch.setattr(application, "operator_commands", own)
    monkeypatch.setattr(lifecycle, "_registered", [])
    return own


class Observer:
    """Remembers what it is told; `fails` names a method that raises, `hangs` one that does not come back."""

    def __init__(self, *, fails: str = "", hangs: str = "") -> None:
        self.told: list[tuple[str, str]] = []
        self.access: dict[str, ProviderAccess] = {}
        self.threads: set[str] = set()
        self.released = threading.Event()
        self._fails, self._hangs = fails, hangs

    def after_application_start(self, application: ApplicationIdentity, access: ProviderAccess) -> None:
        self.access[str(application)] = access
        self._note("start", application)

    def before_application_shutdown(self, application: ApplicationIdentity) -> None:
        self._note("stop", application)

    def _note(self, what: str, application: ApplicationIdentity) -> None:
        self.told.append((what, str(application)))
        self.threads.add(threading.current_thread().name)
        if self._hangs == f"{what} {application}":
            self.released.wait(20)
        if self._fails == f"{what} {application}":
            raise RuntimeError("no, thanks")


# Observers ------------------------------------------------------------------------------------------------------------


def test_an_observer_is_told_of_every_application_after_its_start_and_before_its_end(estate: Estate, records) -> None:
    observer = Observer()
    web = estate.one("web") + 'depends_on = ["a"]\n'
    with estate.host(web, estate.one("a") + "instances = 2\n", observer=observer):
        order = ["a/a-1", "a/a-2", "web/web-1"]
        assert observer.told == [("start", one) for one in order]
        assert observer.access["a/a-2"].identity == ApplicationIdentity("a", "a-2")
    assert observer.told[3:] == [("stop", one) for one in order[::-1]]
    assert "MainThread" not in observer.threads  # it may block: nobody waits for it but the start


def test_an_observer_may_use_the_application_while_it_is_told(estate: Estate) -> None:
    answers: list[bytes] = []

    class Filling(Observer):
        def after_application_start(self, application: ApplicationIdentity, access: ProviderAccess) -> None:
            self.access[str(application)] = access
            answers.append(access.call("cell", "next"))

        def before_application_shutdown(self, application: ApplicationIdentity) -> None:
            answers.append(self.access[str(application)].call("cell", "next"))

    with estate.host(estate.one("a"), observer=Filling()):
        pass
    assert answers == [b"\1\0\0\0", b"\2\0\0\0"]


def test_an_observer_may_be_made_of_coroutines(estate: Estate) -> None:
    told: list[object] = []

    class Waiting:
        async def after_application_start(self, application: ApplicationIdentity, access: ProviderAccess) -> None:
            told.append(await access.call_async("cell", "echo", str(application).encode()))

        async def before_application_shutdown(self, application: ApplicationIdentity) -> None:
            told.append(application)

    with estate.host(estate.one("a"), observer=Waiting()):
        pass
    assert told == [b"a/a-1", A]


def test_what_an_observer_raises_fails_the_start_and_it_hears_no_goodbye_of_that_application(estate: Estate) -> None:
    observer = Observer(fails="start b/b-1")
    host = estate.host(estate.one("a"), estate.one("b"), estate.one("c"), observer=observer)
    with pytest.raises(StartError, match=r"^start application b/b-1: lifecycle observer: RuntimeError: no, thanks$"):
        host.__enter__()
    assert observer.told == [("start", "a/a-1"), ("start", "b/b-1"), ("stop", "a/a-1")]


def test_what_an_observer_raises_at_the_end_is_told_and_everything_stops(estate: Estate, records) -> None:
    with estate.host(estate.one("a"), estate.one("b"), observer=Observer(fails="stop b/b-1")) as host:
        pass
    assert host.unclean == ("shutdown application b/b-1: lifecycle observer: RuntimeError: no, thanks",)
    assert [fields["cell"] for fields in records.fields("shutdown complete")] == ["b/cell", "a/cell"]


@pytest.mark.slow
def test_an_observer_that_does_not_come_back_is_not_waited_for(estate: Estate, records) -> None:
    observer = Observer(hangs="stop b/b-1")

    async def main() -> Composition:
        async with estate.host(estate.one("a"), estate.one("b"), observer=observer, grace_seconds=1.0) as host:
            began = time.monotonic()
        assert time.monotonic() - began < 2.0
        observer.released.set()
        return host

    host = asyncio.run(main())
    assert host.unclean == ("shutdown application b/b-1: lifecycle observer: it did not come back in time",)
    assert not host.finished
    assert [fields["cell"] for fields in records.fields("shutdown complete")] == ["b/cell", "a/cell"]


def test_one_application_alone_has_an_observer_too_and_cells_have_none(estate: Estate) -> None:
    estate.one("a")
    observer = Observer()
    for more in ({}, {"instance": "blue"}):
        with Host(app=estate.path / "a", observer=observer, storage_root=estate.path / "data", **more):
            pass
    with Host([estate.path / "a" / "cell"], observer=observer, storage_root=estate.path / "data"):
        pass
    assert observer.told == [("start", "a/default"), ("stop", "a/default"), ("start", "a/blue"), ("stop", "a/blue")]


def test_the_observer_of_the_process_is_told_unless_a_host_has_another(estate: Estate) -> None:
    everywhere, own = Observer(), Observer()
    pulp_runtime.observe(everywhere)
    with pytest.raises(ExtensionError, match="a lifecycle observer is registered already"):
        pulp_runtime.observe(own)
    entry = estate.one("a")
    with estate.host(entry, observer=own):
        assert everywhere.told == []
    with estate.host(entry):
        assert everywhere.told == [("start", "a/a-1")]
    assert own.told == [("start", "a/a-1"), ("stop", "a/a-1")]


@pytest.mark.parametrize("nothing", [None, object()])
def test_who_cannot_be_told_is_no_observer(nothing: Any) -> None:
    with pytest.raises(ExtensionError, match="a lifecycle observer has a method after_application_start"):
        pulp_runtime.observe(nothing)


# Access ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def running(estate: Estate) -> Iterator[tuple[Composition, ProviderAccess]]:
    observer = Observer()
    with estate.host(estate.one("a", FUNCTIONS), estate.one("b"), observer=observer) as host:
        yield host, observer.access["a/a-1"]


def test_access_reaches_the_cells_of_one_application_and_no_other(running) -> None:
    host, access = running
    assert access.call("cell", "echo", b"hi") == b"hi"
    for name in ("b/cell", "other", ""):
        with pytest.raises(CallRefused, match=f'^provider cell "{name}" is unavailable: there is no such cell$'):
            access.call(name, "echo")
    with pytest.raises(CallRefused, match=r'^cell "cell" does not provide "other"'):
        access.call("cell", "other")
    with pytest.raises(CellTrap):
        access.call("cell", "trap")
    do(host, "stop", "a/cell")
    with pytest.raises(CallRefused, match=r'^provider cell "cell" is unavailable: it is stopped$'):
        access.call("cell", "echo")


def test_access_is_revoked_when_the_application_stops(estate: Estate) -> None:
    observer = Observer()
    with estate.host(estate.one("a"), observer=observer):
        pass
    with pytest.raises(CallRefused, match=r"^provider access is revoked"):
        observer.access["a/a-1"].call("cell", "echo")


def test_calls_through_one_access_do_not_wait_for_each_other_across_cells(estate: Estate) -> None:
    observer = Observer()
    for name in ("slow", "quick"):
        estate.cell("a", name, FUNCTIONS, "call_timeout_ms = 20000")
    with estate.host(estate.app("a", "slow", "quick"), observer=observer, grace_seconds=1.6) as host:
        access = observer.access["a/a-1"]
        ended: list[PulpError] = []

        def spin() -> None:
            try:
                access.call("slow", "stop")
            except PulpError as error:
                ended.append(error)

        thread = threading.Thread(target=spin)
        thread.start()
        while not applications(host)["a/a-1"].fleet.runners["slow"].cell._lock._owner:
            time.sleep(0.001)
        assert access.call("quick", "echo", b"free") == b"free"
    thread.join()
    assert isinstance(ended[0], CellTrap)


# Operator commands ----------------------------------------------------------------------------------------------------


def command(**more: Any) -> OperatorCommand:
    given: dict[str, Any] = {"name": "say", "application": A, "cell": "cell", "function": "echo"}
    return OperatorCommand(**{**given, **more})


def test_a_command_reaches_its_cell_while_the_application_runs(estate: Estate, fresh: OperatorCommands) -> None:
    fresh.register(command(max_request_bytes=5))
    fresh.register(command(name="elsewhere", application=ApplicationIdentity("z", "z-1")))
    with pytest.raises(OperatorCommandError, match="'say' is not active: a/a-1 does not run"):
        fresh.invoke("say")
    with estate.host(estate.one("a")) as host:
        assert fresh.invoke("say", b"hello") == b"hello"
        with pytest.raises(OperatorCommandError, match="'say': request exceeds limit: 6 bytes, at most 5"):
            fresh.invoke("say", b"hello!")
        with pytest.raises(OperatorCommandError, match="'elsewhere' is not active"):
            fresh.invoke("elsewhere")
        with pytest.raises(OperatorCommandError, match="'nothing' is not registered"):
            fresh.invoke("nothing")
        fresh.register(command(name="late"))
        with pytest.raises(OperatorCommandError, match="'late' is not active"):
            fresh.invoke("late")
        assert host.call("a/cell", "next") == b"\1\0\0\0"
    with pytest.raises(OperatorCommandError, match="'say' is not active"):
        fresh.invoke("say")


def test_two_hosts_of_one_identity_cannot_both_have_its_commands(estate: Estate, fresh: OperatorCommands) -> None:
    fresh.register(command())
    entry = estate.one("a")
    with estate.host(entry):
        with pytest.raises(StartError, match="operator command 'say' is active already: a/a-1 runs twice"):
            estate.host(storage_root=estate.path / "other").__enter__()
        assert fresh.invoke("say", b"still") == b"still"


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"name": ""}, id="no name"),
        pytest.param({"name": " say"}, id="a blank before the name"),
        pytest.param({"name": "x" * 129}, id="a name of 129 bytes"),
        pytest.param({"name": "é" * 65}, id="a name of 130 bytes"),
        pytest.param({"application": ApplicationIdentity("a", " ")}, id="no instance"),
        pytest.param({"cell": ""}, id="no cell"),
        pytest.param({"function": " "}, id="no function"),
        pytest.param({"max_request_bytes": 0}, id="no byte"),
        pytest.param({"max_request_bytes": MOST_REQUEST_BYTES + 1}, id="a byte too many"),
    ],
)
def test_a_command_that_is_not_complete_is_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(OperatorCommandError, match="operator command: descriptor is invalid"):
        command(**wrong)


def test_a_name_is_given_once(fresh: OperatorCommands) -> None:
    first = fresh.register(command(name="x" * 128, max_request_bytes=MOST_REQUEST_BYTES))
    assert first.name == "x" * 128
    with pytest.raises(OperatorCommandError, match="is registered already"):
        fresh.register(command(name="x" * 128, cell="other"))

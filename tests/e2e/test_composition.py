"""Several applications as one host: start and stop, what each instance owns, operations (spec/core §7)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from pulp_runtime import Composition, StartError
from pulp_runtime._kernel.modules import Modules
from pulp_runtime.capabilities.storage.place import cell_folder
from pulp_runtime.errors import CallRefused, CellTrap, ExtensionError, ManifestError, OperationFailed, PulpError
from pulp_runtime.ext import Capability, CellRef, Endpoint, Posted, Scope, SetupEnv, StepEvent
from pulp_runtime.testing import Fake

from .compose import FUNCTIONS, TOLD, Estate, applications, do, route

WATCHED = TOLD.replace('"storage.fs"', '"storage.fs", "test.watch"')
TWO = '[[cell_placements]]\ncell = "b"\ninstances = ["x", "y"]\n'


@pytest.fixture
def estate(tmp_path: Path, wasm: Callable[[str], bytes]) -> Estate:
    return Estate(tmp_path, wasm)


class Watcher:
    """`test.watch`: remembers by application what it is told, and posts what the test wants."""

    def __init__(self, *, scoped: bool = True, shared: bool = True) -> None:
        self.envs: dict[str, SetupEnv] = {}
        self.refs: dict[str, CellRef] = {}
        self.gone: list[str] = []
        self.ended: list[object] = []
        self.polled: list[StepEvent] = []
        self.finalized: list[int] = []
        self.capability = Capability(
            name="test.watch",
            register=lambda _linker, cell: self.refs.update({cell.address: cell}),
            setup=lambda env: self.envs.update({"/".join(env.scope[:2]): env}),
            teardown_cell=self.gone.append,
            teardown=lambda: self.ended.append("teardown"),
            teardown_scope=self.ended.append if scoped else None,
            poll=lambda: self.polled.pop(0) if self.polled else None,
            finalize=self.finalized.append,
        )

    def post(self, application: str, target: str, text: str = "hello") -> Posted:
        return self.envs[application].post(event(target, text))


def event(target: str, text: str) -> StepEvent:
    return StepEvent("test", msgspec.msgpack.encode(text), 1, target)


def last_of(host: Composition, cell: str, text: str, seconds: float = 10) -> bool:
    """Tell whether the latest event of a cell comes to be this one."""
    end = time.monotonic() + seconds
    while not host.call(cell, "last").endswith(msgspec.msgpack.encode(text)):
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def three(estate: Estate, *, watched: str = WATCHED) -> list[str]:
    """Write three applications of one module: `shop` in two instances, each with `a` and twice `b`; return entries."""
    entries = []
    for name in ("shop", "blog", "feed"):
        estate.cell(name, "a", watched, guest="placed")
        estate.cell(name, "b", watched, guest="placed")
        entries.append(estate.app(name, "a", "b", lines=TWO))
    entries[0] += 'instances = 2\naliases = ["red", "blue"]\n'
    return entries


CELLS = [
    *("blog/a", "blog/b@x", "blog/b@y", "feed/a", "feed/b@x", "feed/b@y"),
    *("shop/blue/a", "shop/blue/b@x", "shop/blue/b@y", "shop/red/a", "shop/red/b@x", "shop/red/b@y"),
]


# Start and stop -------------------------------------------------------------------------------------------------------


def test_applications_start_after_those_they_depend_on_and_stop_in_reverse(estate: Estate, records) -> None:
    web = estate.one("web") + 'depends_on = ["store"]\n'
    store = estate.one("store") + 'instances = 2\naliases = ["zeta", "alpha"]\n'
    with estate.host(web, estate.one("news"), store) as host:
        assert list(host.status()) == ["news/cell", "store/alpha/cell", "store/zeta/cell", "web/cell"]
        assert {cell.state for cell in host.status().values()} == {"ready"}

    order = [fields["cell"] for fields in records.fields("cell ready")]
    assert order == ["news/cell", "store/alpha/cell", "store/zeta/cell", "web/cell"]
    assert [fields["cell"] for fields in records.fields("shutdown complete")] == order[::-1]
    assert host.status() == {}
    assert host.unclean == ()
    assert host.finished


def test_every_instance_has_cells_of_its_own_and_one_compilation(estate: Estate, monkeypatch, tmp_path) -> None:
    compiled: list[str] = []
    original = Modules._run_compiler

    def run_compiler(self: Modules, cell: str, *more: object) -> None:
        compiled.append(cell)
        original(self, cell, *more)

    monkeypatch.setattr(Modules, "_run_compiler", run_compiler)
    with estate.host(estate.one("a") + "instances = 3\n", cache=tmp_path / "cache") as host:
        for name, times in (("a/a-1/cell", 1), ("a/a-2/cell", 2), ("a/a-3/cell", 3)):
            for count in range(1, times + 1):
                assert host.call(name, "next") == count.to_bytes(4, "little")
    assert len(compiled) == 1


@pytest.mark.parametrize("position", ["first", "second", "third"])
def test_one_application_that_fails_takes_down_all_that_started_before_it(estate, records, position: str) -> None:
    entries = []
    for name in ("first", "second", "third"):
        estate.cell(name, "good")
        estate.cell(name, "other", guest="refuse_init" if name == position else "neighbour")
        entries.append(estate.app(name, "good", "other"))
    host = estate.host(*entries)
    wanted = rf"^start application {position}/{position}-1: cell \"{position}/other\" failed to start: pulp_init"
    with pytest.raises(StartError, match=wanted):
        host.__enter__()

    ready = [fields["cell"] for fields in records.fields("cell ready")]
    assert ready[-1] == f"{position}/good"
    assert [fields["cell"] for fields in records.fields("shutdown complete")] == ready[::-1]
    assert host.status() == {}
    estate.cell(position, "other")
    with estate.host() as again:
        assert len(again.status()) == 6


def test_a_rollback_that_goes_wrong_is_told_with_the_reason_of_the_start(estate: Estate) -> None:
    estate.cell("a", "rude", guest="refuse_shutdown")
    estate.cell("b", "bad", guest="refuse_init")
    with pytest.raises(StartError) as caught:
        estate.host(estate.app("a", "rude"), estate.app("b", "bad")).__enter__()

    start, _, rollback = str(caught.value).partition("; rollback application host: ")
    assert start.startswith('start application b/b-1: cell "b/bad" failed to start')
    assert rollback == "shutdown application a/a-1: cell a/rude: pulp_shutdown returned 3"


def test_after_a_failed_start_the_same_host_starts(estate: Estate) -> None:
    folder = estate.cell("a", "cell")
    (folder / "cell.wasm").unlink()
    host = estate.host(estate.app("a", "cell"))
    with pytest.raises(StartError, match="start application a/a-1"):
        host.__enter__()
    estate.cell("a", "cell")
    with host:
        assert host.status()["a/cell"].state == "ready"


def test_a_host_starts_once_and_never_again_after_it_was_stopped(estate: Estate) -> None:
    async def main() -> None:
        host = estate.host(estate.one("a"))
        await host.stop()  # before its start this does nothing
        results = await asyncio.gather(host.start(), host.start(), return_exceptions=True)
        assert [str(one) for one in results if one is not None] == ["multi-application host is already running"]
        await host.stop()
        await host.stop()
        with pytest.raises(StartError, match=r"^multi-application host has been stopped$"):
            await host.start()

    asyncio.run(main())


@pytest.mark.slow
def test_twenty_five_ends_in_idleness_never_look_like_a_crash(estate: Estate, records) -> None:
    entries = [estate.one("a") + "instances = 2\n", estate.one("b")]
    for _ in range(25):
        with estate.host(*entries) as host:
            pass
        assert (host.unclean, host.finished) == ((), True)
    assert "cell RE-INSTANTIATED after trap" not in records.messages
    assert len(records.fields("shutdown complete")) == 75


def test_a_goodbye_that_goes_wrong_is_kept_and_skips_nobody(estate: Estate, records) -> None:
    estate.cell("b", "rude", guest="refuse_shutdown")
    with estate.host(estate.one("a"), estate.app("b", "rude"), estate.one("c")) as host:
        pass
    assert host.unclean == ("shutdown application b/b-1: cell b/rude: pulp_shutdown returned 3",)
    assert [fields["cell"] for fields in records.fields("shutdown complete")] == ["c/cell", "a/cell"]


@pytest.mark.slow
def test_a_goodbye_that_never_ends_leaves_the_others_time_for_theirs(estate: Estate, records) -> None:
    estate.cell("b", "hangs", guest="spin_shutdown")
    with estate.host(estate.one("a"), estate.app("b", "hangs"), estate.one("c"), grace_seconds=2.0) as host:
        began = time.monotonic()
    assert time.monotonic() - began < 3.0
    assert host.finished
    assert [fields["cell"] for fields in records.fields("shutdown complete")] == ["c/cell", "a/cell"]
    assert host.unclean[0].startswith("shutdown application b/b-1: cell b/hangs: ")


def test_the_log_names_host_and_applications(estate: Estate, records) -> None:
    shop = estate.one("shop") + 'event_namespace = "store"\n'
    with estate.host(shop, estate.one("a") + "instances = 2\n") as host:
        pass
    assert records.fields("pulp multi-application host ready") == [{"host": host.spec.manifest_path, "name": "estate"}]
    assert records.fields("pulp application ready")[0] == {"name": "a/a-1", "placements": 1}
    ready = [(fields["cell"], fields["app"]) for fields in records.fields("cell ready")]
    assert ready == [("a/a-1/cell", "a/a-1"), ("a/a-2/cell", "a/a-2"), ("shop/cell", "store")]


# What an instance owns ------------------------------------------------------------------------------------------------


def test_threat_47_three_applications_of_one_module_share_nothing(estate: Estate, tmp_path: Path) -> None:
    watcher = Watcher()
    with estate.host(*three(estate), capabilities=[watcher.capability]) as host:
        assert list(host.status()) == CELLS
        assert set(watcher.refs) == set(CELLS)
        assert len({ref.id for ref in watcher.refs.values()}) == len(CELLS)
        assert watcher.refs["shop/red/b@y"].id == "pulp-scope/v1/4:shop|3:red|1:b|1:y"
        assert watcher.refs["blog/a"].scope == Scope("blog", "blog-1", "a", "primary")
        assert watcher.envs["shop/red"].scope == Scope("shop", "red", "host", "primary")
        folders = {name: cell_folder(watcher.envs["/".join(ref.scope[:2])], ref) for name, ref in watcher.refs.items()}
        for name in CELLS:
            host.call(name, "write", name.encode())
        assert {name: host.call(name, "get").decode() for name in CELLS} == {name: name for name in CELLS}
    found = {str(file.relative_to(tmp_path / "data")): file.read_text() for file in (tmp_path / "data").rglob("f")}
    wanted = {name.replace("blog/", "blog/blog-1/").replace("feed/", "feed/feed-1/"): name for name in CELLS}
    assert found == {f"{place}/f": name for place, name in wanted.items()}
    assert folders == {name: tmp_path / "data" / place for place, name in wanted.items()}


@pytest.mark.parametrize(
    ("variable", "place", "words"),
    [
        ("PULP_FS_ROOT_SHOP_A", "data/blog/blog-1/a", "overlaps the storage root .*/data, where other cells keep"),
        ("PULP_FS_ROOT_SHOP_A", "data/new", "overlaps the storage root .*/data, where other cells keep"),
        ("PULP_FS_ROOT_X_Y_Z", "elsewhere", "and the folder .*/elsewhere of cell pulp-scope.* overlap"),
    ],
    ids=["a cell of another", "a place beside", "a name that two spell alike"],
)
def test_threat_47_no_choice_of_the_operators_gives_a_cell_the_files_of_another_application(
    estate: Estate, tmp_path: Path, monkeypatch, variable: str, place: str, words: str
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / place))
    for app, name in (("blog", "a"), ("shop", "a"), ("x", "y-z"), ("x-y", "z")):
        estate.cell(app, name, TOLD, guest="placed")
    entries = [estate.app("blog", "a"), estate.app("shop", "a"), estate.app("x", "y-z"), estate.app("x-y", "z")]
    with pytest.raises(StartError, match=words):
        estate.host(*entries).__enter__()


def test_an_operator_puts_the_files_of_one_cell_elsewhere(estate: Estate, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PULP_FS_ROOT_SHOP_RED_B_Y", str(tmp_path / "elsewhere"))
    with estate.host(*three(estate), capabilities=[Watcher().capability]) as host:
        for name in ("shop/red/b@x", "shop/red/b@y"):
            host.call(name, "write", name.encode())
        do(host, "reload", "shop/red/b@y")
        do(host, "restart", "shop/red/b@x")
        assert host.call("shop/red/b@y", "get") == b"shop/red/b@y"
    assert (tmp_path / "elsewhere" / "f").read_text() == "shop/red/b@y"


def test_a_capability_is_set_up_and_torn_down_once_for_each_instance(estate: Estate) -> None:
    watcher = Watcher()
    with estate.host(*three(estate), capabilities=[watcher.capability]):
        scopes = [env.scope for env in watcher.envs.values()]
        order = ["blog/blog-1", "feed/feed-1", "shop/blue", "shop/red"]
        assert ["/".join(scope[:2]) for scope in scopes] == order
    assert watcher.ended == scopes[::-1]
    assert sorted(watcher.gone) == sorted(ref.id for ref in watcher.refs.values())


def test_what_the_operator_set_is_a_copy_of_its_own_for_each_instance(estate: Estate) -> None:
    watcher = Watcher()
    config = {"test.watch": {"deep": {"literal": "${HOME}"}}}
    with estate.host(*three(estate), capabilities=[watcher.capability], config=config):
        first, *others = watcher.envs.values()
        first.config["deep"]["literal"] = "changed"
        assert all(env.config == {"deep": {"literal": "${HOME}"}} for env in others)
    assert config == {"test.watch": {"deep": {"literal": "${HOME}"}}}


@pytest.mark.parametrize(
    ("hooks", "words"),
    [
        ({"setup": lambda _env: None}, "has setup but no scoped teardown"),
        ({"teardown": lambda: None}, "has only process-global teardown"),
    ],
)
def test_a_capability_that_several_instances_share_must_let_go_of_one(estate: Estate, hooks, words: str) -> None:
    shared = Capability(name="test.watch", register=lambda _linker, _cell: None, **hooks)
    entries = three(estate)
    with pytest.raises(StartError, match=f'capability "test.watch" {words}, and 4 application instances share it'):
        estate.host(*entries, capabilities=[shared]).__enter__()
    with pytest.raises(ExtensionError, match=words):
        estate.host(*entries, capabilities=[shared]).check()
    with estate.host(entries[1], capabilities=[shared]) as host:  # with one instance nothing is shared
        assert host.status()["blog/a"].state == "ready"


def test_without_hooks_a_capability_may_be_shared(estate: Estate) -> None:
    plain = Capability(name="test.watch", register=lambda _linker, _cell: None)
    with estate.host(*three(estate), capabilities=[plain]) as host:
        assert len(host.status()) == len(CELLS)


# Events ---------------------------------------------------------------------------------------------------------------


def test_threat_47_an_event_reaches_the_cell_it_names_and_none_of_another_instance(estate: Estate) -> None:
    watcher = Watcher()
    with estate.host(*three(estate), capabilities=[watcher.capability]) as host:
        for name in ("shop/red/a", "shop/blue/a", "feed/b@x"):
            application = "/".join(watcher.refs[name].scope[:2])
            assert watcher.post(application, watcher.refs[name].id, name) is Posted.ACCEPTED
            assert last_of(host, name, name)
        assert watcher.post("shop/red", watcher.refs["shop/blue/a"].id, "theft") is Posted.CLOSED
        assert host.call("shop/blue/a", "last").endswith(b"shop/blue/a")
        assert host.call("blog/a", "last") == b""


@pytest.mark.parametrize("target", ["", "a", "b@x", "shop/red/a", "nobody"])
def test_an_event_that_does_not_name_a_cell_in_full_is_refused(estate: Estate, records, target: str) -> None:
    watcher = Watcher()
    with estate.host(*three(estate), capabilities=[watcher.capability]):
        assert watcher.post("shop/red", target) is Posted.CLOSED
    assert records.fields("application event rejected")[0]["target"] == target


def test_a_shared_source_that_can_only_be_asked_is_asked_once_and_its_events_find_their_way(estate: Estate) -> None:
    watcher = Watcher()
    with estate.host(*three(estate), capabilities=[watcher.capability]) as host:
        watcher.polled += [event(watcher.refs["shop/red/b@y"].id, "red"), event(watcher.refs["blog/a"].id, "blog")]
        assert last_of(host, "shop/red/b@y", "red")
        assert last_of(host, "blog/a", "blog")
        watcher.polled.append(event("nobody", "lost"))
        end = time.monotonic() + 10
        while len(watcher.finalized) < 3:
            assert time.monotonic() < end
            time.sleep(0.002)


# Endpoints ------------------------------------------------------------------------------------------------------------


def test_each_instance_has_endpoints_of_its_own_and_they_go_with_it(estate: Estate) -> None:
    watcher = Watcher()
    with estate.host(*three(estate), capabilities=[watcher.capability]) as host:
        red, blue = watcher.envs["shop/red"], watcher.envs["shop/blue"]
        first = Endpoint("test.watch", "public", "test://1")
        for env, address in ((red, "test://1"), (blue, "test://2"), (red, "test://1")):
            env.reachable(first._replace(address=address))
        assert host.endpoints.address("shop", "red", "test.watch") == "test://1"
        assert host.endpoints.address("shop", "blue", "test.watch") == "test://2"
        with pytest.raises(ExtensionError, match=r"endpoint public of test\.watch is test://1 already"):
            red.reachable(first._replace(address="test://3"))
        red.unreachable(first._replace(address="test://late"))
        assert host.endpoints.address("shop", "red", "test.watch") == "test://1"
        red.unreachable(first)
        assert host.endpoints.address("shop", "red", "test.watch") == ""
    assert list(host.endpoints) == []


def test_a_failed_start_leaves_no_endpoint_and_those_of_others_stay_until_they_stop(estate: Estate) -> None:
    seen: list[list[object]] = []

    def setup(env: SetupEnv) -> None:
        env.reachable(Endpoint("test.watch", "public", f"test://{env.scope.application}"))

    watch = Capability(
        name="test.watch",
        register=lambda _linker, _cell: None,
        setup=setup,
        teardown_scope=lambda _scope: seen.append([role.application for role, _address in host.endpoints]),
    )
    entries = [estate.one("a", WATCHED), estate.one("b", WATCHED)]
    for name, guest in (("a", "placed"), ("b", "refuse_init")):
        estate.cell(name, "cell", WATCHED, guest=guest)
    host = estate.host(*entries, capabilities=[watch])
    with pytest.raises(StartError):
        host.__enter__()
    assert seen == [["a", "b"], ["a"]]
    assert list(host.endpoints) == []


# Use ------------------------------------------------------------------------------------------------------------------


def test_a_program_asks_cells_by_application_with_the_instance_where_there_are_several(estate: Estate) -> None:
    with estate.host(estate.one("a"), estate.one("b") + "instances = 2\n") as host:
        for name in ("a/cell", "a/a-1/cell", "b/b-1/cell", "b/b-2/cell"):
            assert host.call(name, "echo", b"hi") == b"hi"
        for name in ("cell", "b/cell", "a/a-2/cell", "a", ""):
            with pytest.raises(CallRefused, match="there are a/cell, b/b-1/cell, b/b-2/cell"):
                host.call(name, "echo")
        with pytest.raises(CallRefused, match="does not provide 'other'"):
            host.call("a/cell", "other")


def test_single_cells_are_stopped_started_and_reloaded_by_the_names_that_status_has(estate: Estate) -> None:
    with estate.host(estate.one("a"), estate.one("b") + "instances = 2\n") as host:
        do(host, "stop", "b/b-1/cell")
        states = {name: cell.state for name, cell in host.status().items()}
        assert states == {"a/cell": "ready", "b/b-1/cell": "stopped", "b/b-2/cell": "ready"}
        do(host, "start", "b/b-1/cell")
        host.call("a/cell", "next")
        do(host, "restart", "a/a-1/cell")
        assert host.call("a/cell", "next") == b"\1\0\0\0"
        manifest = estate.path / "a" / "cell" / "pulp.cell.toml"
        manifest.write_text(manifest.read_text().replace('"next"', '"next", "new"'))
        assert do(host, "reload", "a/cell") == ("+ provides: new",)
        do(host, "rollback", "a/cell")
        for name, words in (("cell", "; there is a/cell, b/b-1/cell, b/b-2/cell"), ("a/other", ""), ("b", "")):
            with pytest.raises(OperationFailed, match=rf'^unknown cell: "{name}"{words}$'):
                do(host, "reload", name)
        with pytest.raises(OperationFailed, match=r'^cell "b/b-2/cell" has run no other version'):
            do(host, "rollback", "b/b-2/cell")
        assert not host.operations.all_stopped
        for name in host.status():
            do(host, "stop", name)
        assert host.operations.all_stopped


def test_operations_are_for_a_host_that_runs(estate: Estate) -> None:
    host = estate.host(estate.one("a"))
    with pytest.raises(StartError, match="the host does not run"):
        assert host.operations


def test_calls_from_other_threads_and_coroutines_go_on_while_the_host_serves(estate: Estate) -> None:
    async def main() -> list[bytes]:
        async with estate.host(estate.one("a"), estate.one("b")) as host:
            calls = [host.call_async(f"{name}/cell", "echo", name.encode()) for name in ("a", "b") * 8]
            return await asyncio.gather(*calls)

    assert asyncio.run(main()) == [b"a", b"b"] * 8


def test_a_guest_that_never_ends_in_one_application_holds_up_no_other(estate: Estate) -> None:
    spins = estate.one("a", FUNCTIONS, "call_timeout_ms = 20000")
    with estate.host(spins, estate.one("b"), workers=1, grace_seconds=1.6) as host:
        ended: list[Exception] = []

        def spin() -> None:
            try:
                host.call("a/cell", "stop")
            except PulpError as error:
                ended.append(error)

        thread = threading.Thread(target=spin)
        thread.start()
        assert host.call("b/cell", "echo", b"free") == b"free"
    thread.join()
    assert isinstance(ended[0], CellTrap)


def test_a_fake_takes_the_place_of_what_is_built_in_in_every_application(estate: Estate) -> None:
    fake = Fake("storage.fs", fs_write=(4, 77), fs_read=(4, 0)).capability
    more = {"capabilities": [fake], "providers": {"storage.fs": fake.provider}}
    for name in ("a", "b"):
        estate.cell(name, "cell", TOLD, guest="placed")
    with estate.host(estate.app("a", "cell"), estate.app("b", "cell"), **more) as host:
        for name in ("a/cell", "b/cell"):
            assert host.call(name, "write", b"x") == (77).to_bytes(4, "little")
    with pytest.raises(StartError, match=r'"storage\.fs" requires explicit selection'):
        estate.host(capabilities=[fake]).__enter__()


def test_a_cell_of_one_application_is_saved_and_goes_on_in_the_next_life(estate: Estate, tmp_path: Path) -> None:
    entry = estate.one("a", FUNCTIONS, "snapshotable = true") + "instances = 2\n"
    with estate.host(entry) as host:
        assert host.call("a/a-1/cell", "next") == b"\1\0\0\0"
        assert str(tmp_path / "data" / "a" / "a-1" / "cell") in str(do(host, "snapshot", "a/a-1/cell"))
    with estate.host(entry) as host:
        assert host.call("a/a-1/cell", "next") == b"\2\0\0\0"
        assert host.call("a/a-2/cell", "next") == b"\1\0\0\0"


# What is refused before anything starts -------------------------------------------------------------------------------


def test_a_capability_that_nobody_offers_is_refused_with_the_cell_that_wants_it(estate: Estate, records) -> None:
    entries = [estate.one("a"), estate.one("b", 'capabilities = ["storage.ks"]')]
    host = estate.host(*entries)
    with pytest.raises(ManifestError, match=r'cell "cell" declares unknown capability "storage\.ks"; did you mean'):
        host.check()
    with pytest.raises(StartError, match=r"storage\.ks"):
        host.__enter__()
    assert "cell ready" not in records.messages


def test_a_route_to_an_application_that_answers_no_requests_is_refused(estate: Estate) -> None:
    host = estate.host(estate.one("a"), route("/", "a"))
    with pytest.raises(ManifestError, match='route "/": application a does not expose HTTP'):
        host.check()


def test_several_applications_that_answer_requests_need_routes(estate: Estate) -> None:
    for name in ("a", "b"):
        estate.lab(name)
    host = estate.host(estate.app("a", "lab"), estate.app("b", "lab"))
    with pytest.raises(ManifestError, match=r"a, b answer HTTP, and there are no routes; write \[\[routes\]\]"):
        host.check()


def test_settings_for_a_capability_that_nobody_offers_are_refused(estate: Estate) -> None:
    host = estate.host(estate.one("a"), config={"no.such": {}})
    with pytest.raises(ExtensionError, match=r"nobody offers a capability 'no\.such'"):
        host.check()


def test_a_check_starts_nothing(estate: Estate, records) -> None:
    watcher = Watcher()
    host = estate.host(*three(estate), capabilities=[watcher.capability])
    before = threading.active_count()
    host.check()
    assert threading.active_count() == before
    assert (watcher.envs, records.all, applications(host)) == ({}, [], {})

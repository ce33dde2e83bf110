"""`pulp -host`, `pulp -validate-host` and `pulp ctl` as their users run them (spec/core §1.2, §1.6, §1.7)."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .compose import FUNCTIONS, Estate, away, route
from .conftest import COMMAND

SECONDS = 20.0


@pytest.fixture
def estate(tmp_path: Path, wasm: Callable[[str], bytes]) -> Estate:
    return Estate(tmp_path, wasm)


def shop_and_store(estate: Estate) -> Path:
    """Write `shop`, at /shop, with a cell that may call `store`, of which there are two instances."""
    estate.lab("shop")
    estate.cell("shop", "caller", FUNCTIONS, 'host_consumes = ["echo"]')
    shop = estate.app("shop", "lab", "caller") + 'depends_on = ["store"]\n'
    return estate.write(shop, estate.one("store") + "instances = 2\n", route("/shop", "shop"))


READY = 'msg="pulp multi-application host ready" host='


@pytest.fixture
def serve(pulp: Callable[..., Any], estate: Estate) -> Callable[..., Any]:
    """Return `serve(arguments…)`: run the host on a free port; `host.gateway` is that port."""

    def serve(*arguments: object) -> Any:
        host = pulp(*arguments, "-http-port", "127.0.0.1:0")
        host.wait_for(READY)
        host.wait_for("control socket listening")
        host.gateway = int(host.wait_for("host gateway started").rpartition(":")[2])
        return host

    return serve


def get(port: int, path: str) -> tuple[int, bytes]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        client.request("GET", path)
        answer = client.getresponse()
        return answer.status, answer.read()
    finally:
        client.close()


@pytest.fixture
def ctl(estate: Estate, environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    return lambda *words, data=b"": subprocess.run(
        [*COMMAND, "ctl", *words], cwd=estate.path, env=environment, capture_output=True, timeout=SECONDS, input=data
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_host_serves_until_a_signal_and_ends_cleanly_with_0(serve, estate: Estate, number: int) -> None:
    host = serve("-host", shop_and_store(estate))
    assert get(host.gateway, "/shop/x/o") == (200, b"ok")
    assert host.stop(number) == 0
    name = signal.Signals(number).name
    order = [f'msg="signal received" signal={name}', 'msg="shutdown complete" cell=shop/', "exited cleanly"]
    found = [next(at for at, line in enumerate(host.lines) if text in line) for text in order]
    assert found == sorted(found)
    assert host.lines[-1].endswith('msg="pulp multi-application host exited cleanly"')
    assert host.failures == []
    assert not (estate.path / "pulp.ctl").exists()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["-host=manifest", "--host folder", "run folder", "run manifest"])
def test_a_host_is_started_by_its_manifest_or_the_folder_that_holds_it(serve, estate: Estate, way: str) -> None:
    manifest = shop_and_store(estate)
    verb, _, what = way.replace("=", " ").partition(" ")
    path = manifest if what == "manifest" else estate.path
    host = serve(f"{verb}={path}") if "=" in way else serve(verb, path)
    assert host.stop() == 0


@pytest.mark.slow
def test_the_control_socket_knows_every_cell_by_application_and_instance(serve, estate: Estate, ctl) -> None:
    host = serve("-host", shop_and_store(estate))
    cells = ["store/store-1/cell", "store/store-2/cell", "shop/lab", "shop/caller"]
    shown = ctl("status").stdout.decode().splitlines()[1:]
    assert [line.split()[:2] for line in shown] == [[name, "ready"] for name in cells]

    args = away("store", "store-2", "cell", "echo", b"hi")
    assert ctl("call", "shop/shop-1/caller", "away", "-", data=args).stdout == b"\0\0\0\0hi"
    assert ctl("call", "shop/caller", "away", "-", data=args).stdout == b"\0\0\0\0hi"
    for operation in ("reload", "restart", "shutdown", "start"):
        done = ctl(operation, "store/store-2/cell")
        assert (done.stdout, done.stderr) == (b"ok\n", b"")
    failed = ctl("rollback", "shop/lab")
    assert (failed.returncode, b'cell "shop/lab" has run no other version' in failed.stderr) == (1, True)
    failed = ctl("reload", "cell")
    assert (failed.returncode, b"there is store/store-1/cell, store/store-2/cell" in failed.stderr) == (1, True)

    metrics = json.loads(ctl("metrics", "--json").stdout)
    assert list(metrics["cells"]) == cells
    assert host.stop() == 0


@pytest.mark.slow
def test_the_log_is_asked_by_cell_by_instance_or_by_application(serve, estate: Estate, ctl) -> None:
    serve("-host", shop_and_store(estate))
    ctl("reload", "store/store-2/cell")
    ctl("reload", "shop/lab")

    def cells(*wanted: str) -> set[str]:
        lines = ctl("logs", *wanted).stdout.decode().splitlines()
        return {cell[1] for line in lines if (cell := re.search(r"cell=(\S+)", line))}

    assert cells("store/store-2/cell") == cells("store/store-2") == cells("store") == {"store/store-2/cell"}
    assert cells("shop") == cells("shop/lab") == {"shop/lab"}
    assert cells("sho") == cells("store/store") == set()
    assert cells() == {"store/store-2/cell", "shop/lab"}


@pytest.mark.slow
def test_when_every_cell_was_stopped_the_host_ends(serve, estate: Estate, ctl) -> None:
    host = serve("-host", shop_and_store(estate))
    assert ctl("shutdown_all").stdout == b"ok\n"
    assert host.end() == 0
    assert "all cells shut down via control socket; exiting" in host.log


@pytest.mark.slow
def test_a_goodbye_that_goes_wrong_ends_with_1(pulp, estate: Estate) -> None:
    estate.cell("a", "rude", guest="refuse_shutdown")
    host = pulp("-host", estate.write(estate.app("a", "rude")))
    host.wait_for(READY)
    assert host.stop() == 1
    wanted = 'msg="multi-application host shutdown failed" err="shutdown application a/a-1: cell a/rude: '
    assert host.failures[-1].startswith(f"level=ERROR {wanted}")


@pytest.mark.slow
def test_an_application_that_does_not_start_ends_the_host_with_1(pulp, estate: Estate) -> None:
    estate.cell("b", "bad", guest="refuse_init")
    host = pulp("-host", estate.write(estate.one("a"), estate.app("b", "bad")))
    assert host.end() == 1
    assert 'msg="multi-application host failed to start" err="start application b/b-1: ' in host.failures[-1]
    assert "shutdown complete" in host.log


@pytest.mark.slow
def test_a_signal_during_the_start_ends_cleanly(pulp, estate: Estate) -> None:
    estate.cell("b", "spins", guest="spin_init")
    host = pulp("-host", estate.write(estate.one("a"), estate.app("b", "spins")))
    host.wait_until_ready("a/cell").wait_until_it_has_spun()
    assert host.stop() == 0
    assert "host ready" not in host.log


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        pytest.param(
            ["-host", "gone.toml"], 1, 'host failed to start" err="load host applications: ', id="there is no file"
        ),
        pytest.param(
            ["-host", "gone.toml", "-validate-host"],
            1,
            'msg="host manifest validation failed" err=',
            id="there is no file to validate",
        ),
        pytest.param(
            ["-validate-host", "-manifest", "x"], 2, "-validate-host requires -host", id="it validates a cell"
        ),
        pytest.param(
            ["-host", "a", "-app", "b"], 2, "-host, -app, and -manifest are mutually exclusive", id="it says two"
        ),
        pytest.param(
            ["-host", "pulp.host.toml"],
            1,
            "-host with routes requires -http-port for the host gateway",
            id="there are routes and no port",
        ),
        pytest.param(
            ["run", "pulp.host.toml", "shop/lab"], 2, "pulp.host.toml is a host, which runs alone", id="it adds a cell"
        ),
    ],
)
def test_a_command_line_that_leads_to_no_host_says_why(pulp, estate: Estate, arguments, code: int, words: str) -> None:
    shop_and_store(estate)
    host = pulp(*arguments)
    assert host.end() == code
    assert words in host.failures[-1]
    assert "cell ready" not in host.log


@pytest.mark.slow
def test_a_host_is_validated_without_starting_anything(pulp, estate: Estate, tmp_path: Path) -> None:
    manifest = shop_and_store(estate)
    checked = pulp("-host", manifest, "-validate-host")
    assert checked.end() == 0
    assert checked.lines[-1].endswith(f'msg="host manifest valid" host={manifest}')
    assert len(checked.lines) == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace('depends_on = ["store"]', ""), "no direct dependency application provides it"),
        (lambda text: text.replace('path = "/shop"', 'path = "/shop/"'), "is not canonical"),
        (
            lambda text: text.replace('application = "shop"', 'application = "store"\ninstance = "store-1"'),
            "expose HTTP",
        ),
        (lambda text: text.replace("instances = 2", "instances = -2"), "is less than 1"),
    ],
    ids=["a function nobody provides", "a path", "a route to no listener", "instances"],
)
def test_what_is_wrong_with_a_host_is_found_by_its_validation(pulp, estate: Estate, change, words: str) -> None:
    manifest = shop_and_store(estate)
    manifest.write_text(change(manifest.read_text()))
    checked = pulp("-validate-host", "-host", manifest)
    assert checked.end() == 1
    assert words in checked.failures[-1]
    assert "host manifest validation failed" in checked.failures[-1]

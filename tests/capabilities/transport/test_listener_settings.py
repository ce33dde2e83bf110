"""What the operator sets for listeners, and which of them it is for."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import trustme

from pulp_runtime._net.settings import HttpSettings
from pulp_runtime._net.tls import CertificateInvalid
from pulp_runtime.capabilities.transport.front import HTTP, Front
from pulp_runtime.capabilities.transport.listener_settings import listener_settings
from pulp_runtime.errors import ExtensionError
from pulp_runtime.ext import Endpoint, Posted, SetupEnv
from pulp_runtime.log import Log

LAST = b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HTTP_CERT", raising=False)
    monkeypatch.delenv("HTTP_KEY", raising=False)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    issued = trustme.CA().issue_cert("localhost")
    chain, key = tmp_path / "server.pem", tmp_path / "server.key"
    issued.cert_chain_pems[0].write_to_path(chain)
    issued.private_key_pem.write_to_path(key)
    return chain, key


def test_without_settings_there_is_no_tls_and_no_http2() -> None:
    settings = listener_settings({})

    assert (settings.limits, settings.cert, settings.key, settings.http2) == (HttpSettings(), "", "", False)
    assert settings.certificate() is None


def test_limits_and_what_is_spoken_are_set_in_one_place(pair: tuple[Path, Path]) -> None:
    settings = listener_settings({"cert": pair[0], "key": str(pair[1]), "http2": True, "idle_seconds": 3.0})

    assert settings.limits.idle_seconds == 3.0
    assert settings.http2
    assert settings.certificate() is not None


def test_what_is_not_set_may_be_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_CERT", " env-cert ")
    monkeypatch.setenv("HTTP_KEY", "env-key")

    assert listener_settings({}).cert == "env-cert"
    assert listener_settings({"cert": "own"}).cert == "own"
    assert listener_settings({"cert": "own"}).key == "env-key"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        pytest.param({"htttp2": True}, "http.htttp2 is no setting of the listener", id="a name nobody knows"),
        pytest.param({"http2": 1}, "Expected `bool`, got `int`", id="a number for a boolean"),
        pytest.param({"cert": ["a"], "key": "b"}, "Expected `str`, got `array`", id="a list for a path"),
        pytest.param({"cert": "a"}, r"http.key \(or \$HTTP_KEY\) is missing: http.cert is set", id="no key"),
        pytest.param({"key": "a"}, r"http.cert \(or \$HTTP_CERT\) is missing: http.key is set", id="no certificate"),
        pytest.param({"head_bytes": 0}, "http.head_bytes must be positive", id="a limit of nothing"),
    ],
)
def test_what_makes_no_sense_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ExtensionError, match=message):
        listener_settings(config)


def on_a_front(config: dict[str, Any], test: Callable[[Front, list[Endpoint]], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        tasks: list[asyncio.Task[None]] = []
        reached: list[Endpoint] = []
        front = Front()
        env = SetupEnv(
            storage_root=Path("nowhere"),
            logger=Log("pulp"),
            post=lambda _event: Posted.ACCEPTED,
            spawn=lambda coroutine: tasks.append(loop.create_task(coroutine)),
            defer=loop.call_soon_threadsafe,
            reachable=reached.append,
            http_port="127.0.0.1:0",
            http_config=config,
        )
        front.open(env, HTTP, lambda _request, _match: None)
        try:
            await asyncio.sleep(0)
            await test(front, reached)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            front.close(HTTP)

    asyncio.run(main())


async def ask(address: str, data: bytes, context: ssl.SSLContext | None = None) -> bytes:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(9 if data == PREFACE else -1), 10)
    finally:
        writer.close()


def test_listeners_that_cells_open_are_in_the_clear(pair: tuple[Path, Path]) -> None:
    async def test(front: Front, reached: list[Endpoint]) -> None:
        assert front.listen("cell", "127.0.0.1:0")
        await asyncio.sleep(0.01)
        shared, own = (door.listener.addresses[0] for door in front._doors.values())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

        assert reached[0].address == f"https://{shared}"
        assert b"404 page not found" in await ask(shared, LAST, context)
        assert (await ask(own, LAST)).startswith(b"HTTP/1.1 404 ")
        assert (await ask(own, PREFACE)).startswith(b"HTTP/1.1")

    on_a_front({"cert": pair[0], "key": pair[1]}, test)


def test_http2_without_tls_is_for_every_listener_in_the_clear() -> None:
    async def test(front: Front, _reached: list[Endpoint]) -> None:
        front.listen("cell", "127.0.0.1:0")
        await asyncio.sleep(0.01)
        for door in front._doors.values():
            assert (await ask(door.listener.addresses[0], PREFACE))[3:4] == b"\x04"  # SETTINGS
            assert (await ask(door.listener.addresses[0], LAST)).startswith(b"HTTP/1.1 404 ")

    on_a_front({"http2": True}, test)


def test_a_certificate_that_cannot_be_used_is_found_before_the_port_is_taken(pair: tuple[Path, Path]) -> None:
    pair[0].unlink()

    async def test(_front: Front, _reached: list[Endpoint]) -> None:
        raise AssertionError("it opened")

    with pytest.raises(CertificateInvalid, match="cannot be read"):
        on_a_front({"cert": pair[0], "key": pair[1]}, test)


def test_only_an_open_front_with_a_certificate_has_one_to_reload(pair: tuple[Path, Path]) -> None:
    async def with_one(front: Front, _reached: list[Endpoint]) -> None:
        assert front.reload_certificate()
        pair[1].write_text("")
        assert not front.reload_certificate()

    async def without(front: Front, _reached: list[Endpoint]) -> None:
        assert not front.reload_certificate()

    assert not Front().reload_certificate()
    on_a_front({"cert": pair[0], "key": pair[1]}, with_one)
    on_a_front({}, without)


def test_a_host_that_speaks_neither_imports_neither() -> None:
    program = (
        "import sys, pulp_runtime.capabilities.transport.front, pulp_runtime._net.listener\n"
        "print([name for name in ('h2', 'hpack', 'pulp_runtime._net.tls') if name in sys.modules])"
    )

    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b"[]\n"

"""Functions and their keys and secrets in a real host, from a request to the disk."""

from __future__ import annotations

import http.client
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from pulp_runtime import Host, StartError

SOURCE = Path(__file__).with_name("guests") / "web.c"
CANARY = "c4n4ry-5be1d0"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(find_spec("ziglang") is None, reason="NOT CHECKED: needs ziglang"),
]

Start = Callable[..., "contextmanager[Host]"]


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    module = tmp_path_factory.mktemp("web") / "web.wasm"
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-O2", "-s", "-o", str(module)]
    subprocess.run([*zig, str(SOURCE)], check=True, timeout=300)
    return module


@pytest.fixture
def start(tmp_path: Path, module: Path) -> Start:
    def cell(name: str, cloud: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "cell.wasm").write_bytes(module.read_bytes())
        (folder / "pulp.cell.toml").write_text(
            f'name = "{name}"\nversion = "1"\nexecution = "function"\n'
            'capabilities = ["transport.http.inbound", "cloud.kv", "cloud.secrets"]\n'
            f'[function]\nroutes = ["ANY /{name}/*rest"]\n[cloud]\n{cloud}\n'
        )
        return folder

    @contextmanager
    def start(**cells: str) -> Iterator[Host]:
        secrets = tmp_path / "secrets"
        secrets.mkdir(mode=0o700, exist_ok=True)
        (secrets / "stripe_key").write_text(CANARY)
        (secrets / "stripe_key").chmod(0o600)
        with Host(
            [cell(name, cloud) for name, cloud in cells.items()],
            storage_root=tmp_path / "data",
            http_port="127.0.0.1:0",
            config={"cloud.secrets": {"folder": str(secrets)}},
        ) as host:
            yield host

    return start


def ask(host: Host, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    client = http.client.HTTPConnection(host.url.removeprefix("http://"), timeout=20)
    try:
        client.request(method, path, body)
        answer = client.getresponse()
        return answer.status, answer.read()
    finally:
        client.close()


def test_requests_share_keys_and_a_new_host_finds_them(start: Start) -> None:
    shared = 'namespace = "shop"\nkv = { local = "rw" }'
    with start(one=shared, two=shared, alone='kv = { local = "rw" }') as host:
        assert ask(host, "PUT", "/one/a", b"hello") == (200, b"")
        assert ask(host, "GET", "/one/a") == (200, b"hello")
        assert ask(host, "GET", "/alone/one/a")[0] == 409
    with start(two='namespace = "shop"\nkv = { local = "ro" }') as host:
        assert ask(host, "PUT", "/two/a", b"x") == (409, b"Read-only file system")
    with start(one=shared) as host:
        assert ask(host, "GET", "/one/a") == (200, b"hello")
        assert ask(host, "DELETE", "/one/a") == (200, b"")
        assert ask(host, "GET", "/one/a") == (409, b"No such file or directory")


def test_threat_44_no_log_answer_or_error_of_a_host_has_a_secret_in_it(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with start(shop='secrets = ["stripe_key"]') as host:
        said = [ask(host, "POST", "/shop/x"), ask(host, "POST", "/shop/x?trap=1")]
        (tmp_path / "secrets/stripe_key").chmod(0o644)
        said.append(ask(host, "POST", "/shop/x"))
        (tmp_path / "secrets/stripe_key").chmod(0o600)
        (tmp_path / "secrets/stripe_key").write_text(CANARY + "2")
        said.append(ask(host, "POST", "/shop/x"))
        said.append(repr(host.status()))
    shown = capfd.readouterr()
    fields = [str(vars(record)) for record in caplog.records]
    kept = [path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()]

    assert said[0] == (200, b"%d" % len(CANARY))
    assert said[2][0] == 409
    assert said[3] == (200, b"%d" % (len(CANARY) + 1))
    assert any("a secret of" in text for text in fields)
    assert any("open to others" in text for text in fields)
    everything = "\n".join([*map(str, said), *fields, caplog.text, shown.out, shown.err, *map(repr, kept)])
    assert CANARY not in everything


def test_a_cell_with_secrets_and_no_source_does_not_start(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with start(shop='secrets = ["stripe_key"]'):
        pass
    with pytest.raises(StartError), Host([tmp_path / "shop"], storage_root=tmp_path / "data", http_port="127.0.0.1:0"):
        pass
    assert any("no source is set" in str(vars(record)) for record in caplog.records)

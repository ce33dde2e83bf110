"""`pulp inspect`: what there is to know of a cell before it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
PULP = [sys.executable, "-P", "-c", "from pulp_runtime.cli import main; main()"]


def inspect(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PULP, "inspect", *map(str, arguments)], capture_output=True, text=True, timeout=60)


def about(*arguments: object) -> dict[str, object]:
    done = inspect(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_function_says_what_it_would_be_given_and_who_keeps_it() -> None:
    told = about(EXAMPLES / "guestbook/c")

    assert (told["name"], told["execution"], told["namespace"]) == ("guestbook", "function", "guestbook")
    assert told["mounts"] == {"/beta/kv/local": "rw, embedded"}
    assert told["routes"] == ["GET /guestbook", "POST /guestbook"]
    assert set(told["module"]["imports"]) == {"wasi_snapshot_preview1"}


def test_a_cell_says_what_it_imports_and_who_offers_its_capabilities() -> None:
    told = about(EXAMPLES / "echo/c")

    assert told["execution"] == "cell"
    assert "http_respond" in told["module"]["imports"]["pulp"]
    assert told["capabilities"] == {
        "transport.http.inbound": "pulp_runtime.capabilities.transport.http_inbound",
    }


def test_a_module_alone_is_given_nothing_unless_it_is_granted() -> None:
    module = EXAMPLES / "box/box.wasm"

    assert about(module)["mounts"] == {}
    assert about(module, "--grant", "kv.local=rw", "--grant", "secrets.key")["mounts"] == {
        "/beta/kv/local": "rw, embedded",
        "/beta/secrets/key": "ro",
    }


def test_an_operator_s_bucket_names_its_backend(tmp_path: Path) -> None:
    (tmp_path / "pulp.toml").write_text('["cloud.blob".buckets.images]\nbackend = "s3"\n')

    told = about(EXAMPLES / "images/go", "--config", tmp_path / "pulp.toml")

    assert told["mounts"] == {"/beta/blob/images": "rw, s3"}


def test_it_prints_a_line_for_each_thing_there_is_to_say() -> None:
    lines = inspect(EXAMPLES / "guestbook/c").stdout.splitlines()

    assert "cell          guestbook 0.1.0" in lines
    assert "mount         /beta/kv/local  rw, embedded" in lines


def test_what_cannot_be_read_is_told_with_the_file(tmp_path: Path) -> None:
    done = inspect(tmp_path / "nothing")

    assert done.returncode == 1
    assert str(tmp_path / "nothing") in done.stderr

"""Functions and daemons: what their manifests may say, and what they are told when it is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pulp_runtime.errors import ManifestError
from pulp_runtime.manifest.bare import load_bare, load_spec
from pulp_runtime.manifest.cell import load_cell

Write = Callable[..., Path]

FUNCTION = """
execution = "function"
capabilities = ["transport.http.inbound", "cloud.kv", "cloud.blob", "cloud.secrets", "cloud.ipc", "cloud.queue"]
consumes = ["charge"]
[function]
routes = ["GET /hello/:name", "ANY /files/*rest"]
"""


def test_a_function_has_every_default(write_cell: Write) -> None:
    program = load_cell(write_cell(FUNCTION)).program

    assert program is not None
    assert program.execution == "function"
    assert program.routes == ("GET /hello/:name", "ANY /files/*rest")
    assert (program.max_instances, program.timeout_ms, dict(program.environ)) == (32, 10_000, {})


def test_a_cell_is_no_program(write_cell: Write) -> None:
    assert load_cell(write_cell()).program is None
    assert load_cell(write_cell('execution = "cell"')).program is None


def test_the_cloud_is_granted_by_name(write_cell: Write) -> None:
    spec = load_cell(
        write_cell(
            FUNCTION
            + """
max_instances = 2
timeout_ms = 500
[cloud]
namespace = "shop"
kv = { local = "rw", region = "ro" }
blob = { photos = "rw" }
secrets = ["stripe_key"]
ipc = ["billing.charge"]
queue = { orders = "w", refunds = "r" }
[cloud.env]
COLOUR = "green"
"""
        )
    )

    assert spec.program is not None
    assert (spec.program.max_instances, spec.program.timeout_ms) == (2, 500)
    assert dict(spec.program.environ) == {"COLOUR": "green"}
    assert spec.cloud.namespace == "shop"
    assert dict(spec.cloud.kv) == {"local": "rw", "region": "ro"}
    assert dict(spec.cloud.blob) == {"photos": "rw"}
    assert spec.cloud.secrets == ("stripe_key",)
    assert spec.cloud.ipc == ("billing.charge",)
    assert dict(spec.cloud.queue) == {"orders": "w", "refunds": "r"}


def test_a_daemon_needs_no_route(write_cell: Write) -> None:
    program = load_cell(write_cell('execution = "daemon"')).program

    assert program is not None
    assert (program.execution, program.routes, program.websockets) == ("daemon", (), ())


@pytest.mark.parametrize(
    ("lines", "field", "words"),
    [
        ('execution = "job"', "execution", "none of cell, function, daemon"),
        ('[function]\nroutes = ["GET /"]', "function", 'needs execution = "function"'),
        ('execution = "function"\n[daemon]', "daemon", 'needs execution = "daemon"'),
        ('execution = "function"', "function.routes", "a function runs for requests"),
        ('execution = "function"\n[function]\nroutes = ["GET /"]', "capabilities", "transport.http.inbound"),
        ('execution = "daemon"\n[daemon]\nwebsockets = ["/c"]', "capabilities", "transport.ws.inbound"),
        (
            'execution = "daemon"\n[daemon]\nwebsockets = ["c"]',
            "daemon.websockets",
            'no path; write for example "/chat"',
        ),
        ('execution = "daemon"\n[daemon]\nroutes = ["/x"]', "daemon.routes", "no method and path"),
        ('execution = "daemon"\n[daemon]\nroutes = ["get /x"]', "daemon.routes", "no method and path"),
        ('execution = "daemon"\n[daemon]\nroutes = ["GET /x?y"]', "daemon.routes", "no method and path"),
        ('execution = "daemon"\nprovides = ["f"]', "provides", "remove provides"),
        ('execution = "daemon"\nsnapshotable = true', "snapshotable", "remove snapshotable"),
        ('execution = "daemon"\ntick_ms = 5', "tick_ms", "remove tick_ms"),
        ('[cloud]\nnamespace = "shop"', "cloud", 'execution = "function"'),
        ('execution = "daemon"\n[cloud]\nnamespace = "A"', "cloud.namespace", "namespace"),
        ('execution = "daemon"\n[cloud.kv]\nlocal = "rw"', "capabilities", 'add "cloud.kv" to capabilities'),
        ('execution = "daemon"\n[cloud.env]\n"a=b" = "c"', 'cloud.env."a=b"', "cannot be an environment variable"),
        ('execution = "daemon"\n[cloud]\nsecret = ["x"]', "cloud.secret", "secrets"),
    ],
)
def test_what_is_wrong_names_the_field_and_the_fix(write_cell: Write, lines: str, field: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words) as refused:
        load_cell(write_cell(lines))
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("max_instances = 0", "from 1 to 250"),
        ("max_instances = 251", "from 1 to 250"),
        ("timeout_ms = 3600001", "from 1 to 3600000"),
        ('[cloud.kv]\nplanet = "rw"', "none of local, region, global"),
        ('[cloud.kv]\nlocal = "w"', "none of ro, rw"),
        ('[cloud.blob]\n".meta" = "rw"', "is no name"),
        ('[cloud.blob]\n"a/b" = "rw"', "is no name"),
        ('[cloud.queue]\norders = "ro"', "none of r, w, rw"),
        ('[cloud]\nsecrets = ["../x"]', "is no name"),
        ('[cloud]\nipc = ["charge"]', "no function of a cell"),
        ('[cloud]\nipc = ["billing.refund"]', 'needs "refund" in consumes'),
        ('[cloud]\nipc = ["billing.a/b"]', "no function of a cell"),
    ],
)
def test_a_function_is_told_what_is_out_of_bounds(write_cell: Write, lines: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        load_cell(write_cell(FUNCTION + lines))


def test_too_large_an_environment_is_refused(write_cell: Write) -> None:
    with pytest.raises(ManifestError, match="the most is 65536"):
        load_cell(write_cell('execution = "daemon"\n[cloud.env]\nBIG = "' + "x" * 65_536 + '"'))


def test_a_module_alone_is_a_function_on_every_path(tmp_path: Path) -> None:
    spec = load_bare(tmp_path / "Hello World.wasm")

    assert spec.name == "hello-world"
    assert spec.wasm_path == tmp_path / "Hello World.wasm"
    assert spec.capabilities == ("transport.http.inbound",)
    assert spec.program is not None
    assert spec.program.routes == ("ANY /*path",)


def test_a_module_alone_is_granted_what_the_operator_says(tmp_path: Path) -> None:
    spec = load_bare(tmp_path / "x.wasm", ["kv.local=rw", "kv.region", "blob.photos=rw", "secrets.key", "queue.a=w"])

    assert dict(spec.cloud.kv) == {"local": "rw", "region": "ro"}
    assert dict(spec.cloud.blob) == {"photos": "rw"}
    assert spec.cloud.secrets == ("key",)
    assert dict(spec.cloud.queue) == {"a": "w"}
    assert "cloud.queue" in spec.capabilities


@pytest.mark.parametrize("grant", ["kv", "kv.local=w", "kv.moon=rw", "disk.a=rw", "secrets.key=rw", "", "=", "kv.=rw"])
def test_a_grant_that_is_not_understood_is_refused(tmp_path: Path, grant: str) -> None:
    with pytest.raises(ManifestError):
        load_bare(tmp_path / "x.wasm", [grant])


def test_a_path_to_a_module_is_read_as_one(tmp_path: Path, write_cell: Write) -> None:
    assert load_spec(tmp_path / "x.wasm").program is not None
    assert load_spec(write_cell()).program is None

"""`pulp inspect`: what a cell is, asks for and would be given, without running it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click

from pulp_runtime.log import escape

_LABEL: Final = 14
_EMBEDDED: Final = "embedded"
_NOBODY: Final = "nobody offers it"


def inspect(path: str, config: Mapping[str, Mapping[str, Any]], grants: tuple[str, ...], *, as_json: bool) -> None:
    """Print what there is to say of a cell.

    Args:
        path: its manifest, a folder that holds one, or a module that has none.
        config: the operator's settings, by capability.
        grants: what a module without a manifest may touch.
        as_json: print one line of JSON.

    Raises:
        PulpError: it cannot be read.
    """
    from pulp_runtime.manifest.bare import SUFFIX, load_bare, load_spec

    spec = load_bare(Path(path), grants) if path.endswith(SUFFIX) else load_spec(Path(path))
    about = describe(spec, config)
    if as_json:
        click.echo(json.dumps(about))
        return
    for label, value in _rows(about):
        click.echo(f"{label:<{_LABEL}}{escape(value)}".rstrip())


def describe(spec: Any, config: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return everything as JSON has it."""
    program = spec.program
    about: dict[str, Any] = {
        "name": spec.name,
        "version": spec.version,
        "execution": "cell" if program is None else program.execution,
        "manifest": str(spec.manifest_path),
        "module": _module(spec),
        "capabilities": _capabilities(spec.capabilities),
        "provides": list(spec.provides),
        "consumes": list(spec.consumes),
        "depends_on": list(spec.depends_on),
        "memory_mb": spec.max_memory_pages // 16,
        "disk_mb": spec.disk_quota_mb,
    }
    if program is not None:
        about["routes"] = [*program.routes, *(f"WebSocket {path}" for path in program.websockets)]
        about["namespace"] = spec.cloud.namespace or spec.name
        about["mounts"] = dict(_mounts(spec.cloud, config))
    return about


def _module(spec: Any) -> dict[str, Any]:
    from pulp_runtime._kernel.engine import Engine
    from pulp_runtime._kernel.load import read_wasm
    from pulp_runtime._kernel.modules import default_cache

    data = read_wasm(spec)
    engine = Engine(default_cache())
    try:
        imports: dict[str, list[str]] = {}
        for item in engine.modules.load(spec.name, spec.wasm_path, data).imports:
            imports.setdefault(item.module, []).append(item.name or "")
    finally:
        engine.close()
    digest = hashlib.sha256(data).hexdigest()
    return {"path": str(spec.wasm_path), "bytes": len(data), "sha256": digest, "imports": imports}


def _capabilities(names: tuple[str, ...]) -> dict[str, str]:
    """Return who offers each capability."""
    from pulp_runtime.hosting.offers import make_registry

    registry = make_registry((), {})
    found = {}
    for name in names:
        capability = registry.find(name)
        found[name] = _NOBODY if capability is None else capability.provider
    return found


def _mounts(cloud: Any, config: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield what a program finds below `/beta`: how it may be used, and who keeps it."""
    from pulp_runtime.capabilities.cloud import kv

    scopes = kv.backends(config.get("cloud.kv", {}))
    buckets = config.get("cloud.blob", {}).get("buckets", {})
    for scope, mode in cloud.kv.items():
        yield f"/beta/kv/{scope}", f"{mode}, {scopes[scope]}"
    for bucket, mode in cloud.blob.items():
        yield f"/beta/blob/{bucket}", f"{mode}, {buckets.get(bucket, {}).get('backend', _EMBEDDED)}"
    for name in cloud.secrets:
        yield f"/beta/secrets/{name}", "ro"
    for name in cloud.ipc:
        yield f"/beta/ipc/{name.replace('.', '/', 1)}", "call"
    for topic, mode in cloud.queue.items():
        yield f"/beta/queue/{topic}", mode


def _rows(about: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "cell", f"{about['name']} {about['version']}"
    yield "execution", about["execution"]
    yield "manifest", about["manifest"]
    module = about["module"]
    yield "module", f"{module['path']}, {module['bytes']:,} bytes"
    yield "sha256", module["sha256"]
    for source, names in module["imports"].items():
        yield "imports", f"{source}: {' '.join(names)}"
    yield "limits", f"{about['memory_mb']} MiB of memory, {about['disk_mb']} MiB on disk"
    yield from (("capability", f"{name}  ({who})") for name, who in about["capabilities"].items())
    for what in ("provides", "consumes", "depends_on", "routes"):
        yield from ((what, name) for name in about.get(what, ()))
    if "mounts" in about:
        yield "namespace", about["namespace"]
        yield from (("mount", f"{path}  {how}") for path, how in about["mounts"].items())
        if not about["mounts"]:
            yield "mount", "nothing"

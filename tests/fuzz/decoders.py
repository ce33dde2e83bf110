"""Targets: what reads MessagePack and manifests."""

from __future__ import annotations

import importlib
import math
import pkgutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from msgspec import inspect
from tests.fuzz.harness import Broken, Pure, Target
from tests.fuzz.inputs import BOMBS, BYTES, Packer, Pool, pack_value

import pulp_runtime
from pulp_runtime.abi import typed
from pulp_runtime.abi.codec import MAX_NESTING, DecodeError, Extension, Timestamp, decode_liberal, decode_struct
from pulp_runtime.abi.config import encode_config
from pulp_runtime.errors import ManifestError
from pulp_runtime.manifest.cell import load_cell

PLAIN = (int, float, bool, str, bytes, type(None), Timestamp, Extension)


def structs() -> dict[str, type[msgspec.Struct]]:
    """Return every struct of ours that crosses the boundary, by name: those that can be read from bytes."""
    for found_module in pkgutil.walk_packages(pulp_runtime.__path__, "pulp_runtime."):
        if found_module.name.startswith(("pulp_runtime.abi", "pulp_runtime.capabilities")):
            importlib.import_module(found_module.name)
    found = {}
    for name, module in sorted(sys.modules.items()):
        if name.startswith(("pulp_runtime.abi", "pulp_runtime.capabilities")):
            for item in vars(module).values():
                if isinstance(item, type) and item.__module__ == name and _readable(item):
                    found[item.__name__] = item
    return found


def _readable(shape: type) -> bool:
    if not issubclass(shape, msgspec.Struct):
        return False
    try:
        typed.struct_decoder(shape)
    except TypeError:
        return False
    return True


# MessagePack ------------------------------------------------------------------------------------------------------


def read_anything(data: bytes) -> None:
    """Hold `decode_liberal` to its word: a value of plain types, or a `DecodeError`."""
    try:
        value = decode_liberal(data)
    except DecodeError:
        return
    _check_plain(value, 0)


def _check_plain(value: object, depth: int) -> None:
    if depth > MAX_NESTING:
        raise Broken(f"nested {depth} deep")
    if isinstance(value, list):
        for item in value:
            _check_plain(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(key, list | dict):
                raise Broken("a container as a key")
            _check_plain(item, depth + 1)
    elif not isinstance(value, PLAIN):
        raise Broken(f"a value of type {type(value).__name__}")


class StructReader:
    """Holds the reader of one struct to its word: that struct, or a `DecodeError`; and both roads agree."""

    def __init__(self, shape: type[msgspec.Struct]) -> None:
        self._shape = shape
        self._strict = msgspec.msgpack.Decoder(shape).decode
        self._coerce = typed._coercion(inspect.type_info(shape))

    def __call__(self, data: bytes) -> None:
        """Read `data` on both roads."""
        try:
            value = decode_struct(data, self._shape)
        except DecodeError:
            return
        if type(value) is not self._shape:
            raise Broken(f"read as {type(value).__name__}")
        try:
            strict = self._strict(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        try:
            bent = msgspec.convert(self._coerce(decode_liberal(data)), self._shape)
        except DecodeError as error:
            # Unknown fields are not read on the fast road, so these bounds of the slow one do not hold there.
            if "nesting" in str(error) or "itself an array or a map" in str(error):
                return
            raise
        if bent != strict:
            raise Broken(f"the roads differ: {strict!r} and {bent!r}")


# Manifests --------------------------------------------------------------------------------------------------------

TOML = [
    *BYTES,
    *(b"[config]\n", b"[[a]]\n", b"[", b"]", b'"""', b"'''", b"\\u0041", b"\\UFFFFFFFF", b"inf", b"nan", b"0x", b"1_0"),
    *(b"1979-05-27T07:32:00.123456789Z", b"07:32:00.1234567", b"{", b"}", b"a.b.c", b"\xef\xbb\xbf", b"\r\n", b"\0"),
    *(b"9223372036854775808", b"-9223372036854775809", b"true", b"\xd1\x85", b"transport.http.inbound", b"=", b"#"),
]
KEYS = (
    *("name", "version", "wasm", "wasm_sha256", "provides", "consumes", "host_consumes", "depends_on", "capabilities"),
    *("shared_memory_groups", "dedicated_thread", "snapshotable", "restart", "max_memory_pages", "call_timeout_ms"),
    *("tick_ms", "federated_callers", "migratable", "schema_version", "config", "limits", "capabilites", "nàme"),
)
VALUES = (
    *('"a"', '"my-cell"', '"0.1.0"', "1", "0", "-1", "4294967296", "1.5", "true", "[]", '["a"]', '["a", 1]', "{}"),
    *("inf", "nan", "-0.0", "1979-05-27", "07:32:00", "1979-05-27T07:32:00.1234567891", '"../../x"', '"pulp"'),
    *('"on_crash"', '["transport.http.inbound"]', '["storage.fs\u0430"]', '"\\u0000"', "{ a = { b = [1, [2]] } }"),
)


def write_manifest(rng: Random) -> bytes:
    """Return a manifest, more or less."""
    lines = ['name = "cell"', 'version = "1"'] if rng.random() < 0.8 else []
    lines += [f"{rng.choice(KEYS)} = {rng.choice(VALUES)}" for _ in range(rng.randrange(4))]
    if rng.random() < 0.6:
        lines.append("[config]")
        lines += [f"k{at} = {rng.choice(VALUES)}" for at in range(rng.randrange(5))]
    return ("\n".join(lines) + "\n").encode()


class ManifestReader:
    """Holds the loader to its word: a spec, whose config survives its encoding, or a `ManifestError`."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="pulp-fuzz-")
        self._path = Path(self._folder.name) / "pulp.cell.toml"
        self.make = Pool(write_manifest, TOML)

    def check(self, data: bytes) -> None:
        """Load `data` as a manifest."""
        self._path.write_bytes(data)
        try:
            spec = load_cell(self._path)
        except ManifestError as error:
            if not str(error).isprintable():
                raise Broken(f"the error could steer a terminal: {error!s}") from None
            return
        encoded = encode_config(spec.config)
        if spec.config:
            _check_same(spec.config, decode_liberal(encoded))

    def close(self) -> None:
        """Remove the file."""
        self._folder.cleanup()


def _check_same(wrote: Any, read: Any) -> None:
    if isinstance(wrote, dict):
        if not isinstance(read, dict) or list(wrote) != list(read):
            raise Broken(f"{wrote!r} came back as {read!r}")
        for key, value in wrote.items():
            _check_same(value, read[key])
    elif isinstance(wrote, list):
        if not isinstance(read, list) or len(wrote) != len(read):
            raise Broken(f"{wrote!r} came back as {read!r}")
        for mine, theirs in zip(wrote, read, strict=True):
            _check_same(mine, theirs)
    elif isinstance(wrote, float):
        if not (isinstance(read, float) and (wrote == read or (math.isnan(wrote) and math.isnan(read)))):
            raise Broken(f"{wrote!r} came back as {read!r}")
    elif isinstance(wrote, str | bool | int):
        if type(read) is not type(wrote) or wrote != read:
            raise Broken(f"{wrote!r} came back as {read!r}")
    elif not isinstance(read, Timestamp):
        raise Broken(f"{wrote!r} came back as {read!r}")


def targets() -> list[Target]:
    """Return the targets of this file."""
    dictionary = [*BYTES, *BOMBS]
    found = [
        Target(
            "liberal",
            "plain values or DecodeError",
            lambda: Pure(Pool(pack_value, dictionary), read_anything),
            share=20,
        ),
        Target("manifest", "a spec or ManifestError; config round trip", ManifestReader, share=6),
    ]
    for name, shape in structs().items():
        found.append(
            Target(
                f"struct-{name}",
                "the struct or DecodeError; both roads agree",
                partial(_struct_session, shape, dictionary),
                share=10,
            )
        )
    return found


def _struct_session(shape: type[msgspec.Struct], dictionary: list[bytes]) -> Pure:
    return Pure(Pool(Packer(shape), dictionary), StructReader(shape))

"""Compiled modules: in memory for the next cell, on disk for the next start.

A module is compiled once: by a child process with limits (see `compile.py`), because a hostile one keeps a compiler
busy for as long as it likes. The result is native code that the engine runs as it is, so it is kept where nobody
else can write: a folder of our own with mode 0700, under a name made of the module's SHA-256 and the engine's
configuration. A file that does not load is thrown away and made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

import wasmtime
from wasmtime import _ffi

from pulp_runtime.errors import LoadError
from pulp_runtime.log import Log
from pulp_runtime.manifest.module import MAX_MODULE_BYTES

KEPT_MODULES: Final = 32
"""Modules kept in memory for the next cell that wants them. One that is forgotten lives on in its instances."""
COMPILE_SECONDS: Final = 120
"""Wall time a compilation may take; the child also has this much CPU time for each core, and 4 GiB of memory."""

CONFIGURATION: Final = f"engine {os.stat(_ffi.filename).st_size} settings 2"
"""Changes when compiled code of before can no longer be used. Raise the last number with `engine_config`; another
version of the engine is another size of its library, and the engine refuses code of another version by itself."""

_KINDS: Final = (
    (
        b"\0asm\x0d\0\x01\0",
        "is a WebAssembly component; cells are core modules, build it without the component step",
    ),
    (b"\0asm", "has an unknown WebAssembly version"),
    (b"\x1f\x8b", "is compressed with gzip; unpack it first"),
    (b"PK", "is a zip archive; unpack it first"),
    (b"(module", "is WebAssembly text; translate it with wat2wasm first"),
    (b"\x7fELF", "is a native program, not WebAssembly; build for wasm32-wasi (or GOOS=wasip1 GOARCH=wasm)"),
)


def default_cache() -> Path:
    """Return where compiled modules are kept: `$PULP_CACHE_DIR`, or `pulp/modules` in the user's cache folder."""
    if given := os.environ.get("PULP_CACHE_DIR"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "pulp" / "modules"


class Modules:
    """Compiled modules of one engine. Safe from any thread; one module is compiled once however many ask."""

    def __init__(self, engine: wasmtime.Engine, folder: Path | None) -> None:
        self._engine: Final = engine
        self._log: Final = Log("pulp")
        self._folder = self._own(folder) if folder is not None else None
        # Not by weak references: while a module's finalizer runs, they still lead to it.
        self._recent: Final[dict[str, wasmtime.Module]] = {}
        self._locks: Final[dict[str, threading.Lock]] = {}
        self._lock: Final = threading.Lock()
        self._children: Final[set[subprocess.Popen[bytes]]] = set()

    def stop_compiling(self) -> None:
        """End every compilation in progress; who waits for one gets a LoadError."""
        with self._lock:
            for child in self._children:
                child.kill()

    def load(self, cell: str, path: Path, data: bytes) -> wasmtime.Module:
        """Return `data`, read from `path`, compiled.

        Raises:
            LoadError: it is not a module, or not a valid one, or too much work.
        """
        check_kind(cell, path, data)
        key = hashlib.sha256(CONFIGURATION.encode() + data).hexdigest()
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            module = self._recent.pop(key, None)
            if module is None:
                try:
                    module = self._from_disk(key) or self._compiled(cell, path, data, key)
                except OSError as error:
                    raise LoadError(cell, f"compile wasm: {path}: {error}") from None
            self._keep(key, module)
        return module

    def _keep(self, key: str, module: wasmtime.Module) -> None:
        """Remember a module as the one that was asked for last; forget the one for which that is longest ago."""
        with self._lock:
            self._recent[key] = module
            if len(self._recent) > KEPT_MODULES:
                del self._recent[next(iter(self._recent))]

    def _own(self, folder: Path) -> Path | None:
        """Make `folder` ours alone; without it every start compiles anew, which is slow and nothing worse."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            about = folder.lstat()
            if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
                raise PermissionError(f"{folder} is not a folder of this user")
            if about.st_mode & 0o077:
                folder.chmod(0o700)
        except OSError as error:
            self._log.warning("module cache disabled", reason=str(error))
            return None
        return folder

    def _from_disk(self, key: str) -> wasmtime.Module | None:
        if self._folder is None:
            return None
        file = self._folder / f"{key}.cwasm"
        try:
            about = file.lstat()
            if not stat.S_ISREG(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o022:
                raise PermissionError(f"{file} is not a file of this user")
            return wasmtime.Module.deserialize_file(self._engine, str(file))
        except FileNotFoundError:
            return None
        except (OSError, wasmtime.WasmtimeError) as error:
            self._log.warning("compiled module discarded", file=file.name, reason=str(error).splitlines()[0])
            with contextlib.suppress(OSError):
                file.unlink()
            return None

    def _compiled(self, cell: str, path: Path, data: bytes, key: str) -> wasmtime.Module:
        import tempfile  # only for a module that is not in the cache

        with tempfile.TemporaryDirectory(prefix="pulp-", dir=self._folder) as work:
            result = Path(work) / "module.cwasm"
            self._run_compiler(cell, path, data, result)
            if self._folder is not None:
                with result.open("rb") as file:
                    os.fsync(file.fileno())
                result = result.rename(self._folder / f"{key}.cwasm")
            try:
                return wasmtime.Module.deserialize_file(self._engine, str(result))
            except wasmtime.WasmtimeError as error:
                raise LoadError(cell, f"compile wasm: {path}: {error}") from None

    def _run_compiler(self, cell: str, path: Path, data: bytes, result: Path) -> None:
        # -P: whatever lies in the current folder is not to be imported.
        command = [sys.executable, "-P", "-m", "pulp_runtime._kernel.compile", str(result)]
        with subprocess.Popen(  # noqa: S603  # our own interpreter and module
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the host, which ends the child itself
        ) as child:
            with self._lock:
                self._children.add(child)
            try:
                _, told = child.communicate(data, COMPILE_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                raise LoadError(
                    cell,
                    f"compile wasm: {path}: still compiling after {COMPILE_SECONDS} s; the module is too complex",
                ) from None
            finally:
                with self._lock:
                    self._children.discard(child)
        if child.returncode:
            words = told.decode(errors="replace").strip().splitlines()
            reason = words[-1] if child.returncode == 1 and words else f"compiler ended with {child.returncode}"
            raise LoadError(cell, f"compile wasm: {path}: {reason}")


def check_kind(cell: str, path: Path, data: bytes) -> None:
    """Refuse what is not a core module of a reasonable size, saying what it is instead."""
    if len(data) > MAX_MODULE_BYTES:
        raise LoadError(cell, f"compile wasm: {path} has {len(data)} bytes; the most is {MAX_MODULE_BYTES}")
    if data[:8] == b"\0asm\x01\0\0\0":
        return
    for magic, what in _KINDS:
        if data.lstrip()[: len(magic)] == magic:
            raise LoadError(cell, f"compile wasm: {path} {what}")
    what = "is empty" if not data else f"is not a WebAssembly module (it begins with {data[:8]!r})"
    raise LoadError(cell, f"compile wasm: {path} {what}")


def _environment() -> dict[str, str]:
    """Return what the child needs to find this very package, and nothing secret."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ}
    return {**kept, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}

"""Run a host until a signal: the main job."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pulp_runtime import log
from pulp_runtime.background import new_event_loop
from pulp_runtime.cli import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from pulp_runtime.errors import HookFailed, ManifestError, PulpError

if TYPE_CHECKING:
    from pulp_runtime.host import Host
    from pulp_runtime.hosting.composition import Composition
    from pulp_runtime.manifest.cell import CellSpec

GC_ALLOCATIONS: Final = 20_000
"""How many containers more are made before Python looks for cycles; a request makes a dozen and no cycle."""
MOST_DESCRIPTORS: Final = 65_536
"""How many descriptors a host wants at most; some systems have no limit, and looking through all of them takes time."""
_LOOK_SECONDS: Final = 0.25
ONE_SIGNAL_SECONDS: Final = 0.2
"""A signal this soon after another is the same one: `timeout` and many a shell send it to the process and its group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOptions:
    """What the command line says about a host; see its help. `ignored` is the first word that was not looked at."""

    manifests: tuple[str, ...] = ()
    app: str = ""
    host: str = ""
    validate_host: bool = False
    http_port: str | None = None
    http_cert: str | None = None
    http_key: str | None = None
    http2: bool = False
    config: str = ""
    grants: tuple[str, ...] = ()
    storage_root: str = "./data"
    log_format: str = "auto"
    log_level: str = "info"
    ignored: str = ""


def serve(options: HostOptions) -> None:
    """Run a host as `options` say; end the process with its exit code.

    0 after a clean run, 1 when something failed, 2 when the command line makes no sense.
    """
    # A variable that is set beats the flag, even if it is empty (spec/core §1.2); guests see it too.
    if options.http_port:
        os.environ.setdefault("HTTP_PORT", options.http_port)
    for name, path in (("HTTP_CERT", options.http_cert), ("HTTP_KEY", options.http_key)):
        if path and not os.environ.get(name):  # here an empty one does not: it would be a host without TLS
            os.environ[name] = path
    log.configure(options.log_format, level=options.log_level)
    if problem := _problem(options):
        log.Log("pulp").error("invalid runtime input", err=problem)
        sys.exit(EXIT_USAGE)
    _allow_descriptors()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        code, finished = runner.run(_Serving(options).run())
        if not finished:
            _end_now(code)  # a thread is still inside a guest; Python would wait for it
    sys.exit(code)


def _allow_descriptors() -> None:
    """Have as many descriptors as the system lets us: each connection, and each file that a program opens, is one."""
    try:
        import resource
    except ImportError:  # not on this system
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, MOST_DESCRIPTORS), hard))
        except (OSError, ValueError):  # what there is must do
            return


def _problem(options: HostOptions) -> str:
    """Say what is wrong with a command line that makes no sense; "" for one that does."""
    given = sum(map(bool, (options.host, options.app, options.manifests)))
    if not given and options.ignored:
        return f"provide exactly one of -host, -app, or -manifest; did you mean: pulp run {options.ignored}"
    if not given:
        return "provide exactly one of -host, -app, or -manifest; or: pulp run PATH... (see pulp --help)"
    for what, path in (("an application", options.app), ("a host", options.host)):
        if path and path in options.manifests:
            return f"{path} is {what}, which runs alone: pulp run {path}"
    if given > 1:
        return "-host, -app, and -manifest are mutually exclusive"
    if options.grants and not any(path.endswith(".wasm") for path in options.manifests):
        return "-grant is for modules without a manifest; a manifest has [cloud]"
    if options.validate_host and not options.host:
        return "-validate-host requires -host"
    return ""


def what_to_run(paths: tuple[str, ...]) -> dict[str, Any]:
    """Return the options for the paths of `run`: cells, an application or a host; more than one when they are mixed."""
    from pulp_runtime.manifest.names import APP_MANIFEST, HOST_MANIFEST

    for option, name in (("host", HOST_MANIFEST), ("app", APP_MANIFEST)):
        found = [path for path in paths if _leads_to(path, name)]
        if found:
            return {option: found[0], "manifests": paths if len(paths) > 1 else ()}
    return {"manifests": paths}


def _leads_to(path: str, name: str) -> bool:
    """Tell whether a path is a manifest of this name, or a folder that holds one."""
    return os.path.basename(path) == name or os.path.isfile(os.path.join(path, name))


class _Serving:
    """One run, from the manifests to the last line of the log."""

    def __init__(self, options: HostOptions) -> None:
        self._options = options
        self._log = log.Log("pulp")
        self._signalled = asyncio.Event()
        self._signalled_at = 0.0
        self._host: Host | Composition | None = None

    async def run(self) -> tuple[int, bool]:
        """Return the exit code, and whether every thread has ended."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_loop_error)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _frame: loop.call_soon_threadsafe(self._on_signal, number))
        try:
            config = self._config()
            if config.get("http", {}).get("cert"):
                signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(self._on_hangup))
            self._host = host = self._make_host(config)
            if self._options.validate_host:
                return self._valid(host), True
        except PulpError as error:
            self._report_unusable(error)
            return EXIT_FAILED, True
        try:
            code = await self._serve(host)
        except Exception as error:  # noqa: BLE001  # a bug of ours: one line with the stack in it, not a traceback
            self._log.error("pulp failed", err=repr(error), exc_info=error)
            code = EXIT_FAILED
        return code, host.finished

    def _make_host(self, config: dict[str, dict[str, Any]]) -> Host | Composition:
        # The host's modules take most of the time a start takes; signals are looked after meanwhile.
        options = self._options
        if options.host:
            from pulp_runtime.hosting.composition import Composition

            return Composition(options.host, storage_root=options.storage_root, config=config)
        from pulp_runtime.host import Host

        return Host(self._cells(), app=options.app or None, storage_root=options.storage_root, config=config)

    def _cells(self) -> list[str | CellSpec]:
        """Return what is to run; a module without a manifest becomes a function, and the log says what it may touch."""
        from pulp_runtime.manifest.bare import SUFFIX, load_bare

        found: list[str | CellSpec] = []
        for path in self._options.manifests:
            if not path.endswith(SUFFIX):
                found.append(path)
                continue
            spec = load_bare(Path(path), self._options.grants)
            granted = ", ".join(self._options.grants) or "nothing"
            self._log.info("no manifest; it answers every request", cell=spec.name, wasm=path, granted=granted)
            found.append(spec)
        return found

    def _valid(self, host: Any) -> int:
        """Check a host of several applications, and start nothing."""
        host.check()
        self._log.info("host manifest valid", host=host.spec.manifest_path)
        return EXIT_OK

    def _report_unusable(self, error: PulpError) -> None:
        """Log why there is nothing to start."""
        if self._options.validate_host:
            self._log.error("host manifest validation failed", err=str(error))
        elif not isinstance(error, ManifestError):
            self._log.error("invalid runtime input", err=str(error))
        elif self._options.host:
            self._log.error("multi-application host failed to start", err=f"load host applications: {error}")
        else:
            self._log.error("manifest load failed", err=str(error))

    async def _serve(self, host: Host | Composition) -> int:
        start = asyncio.ensure_future(host.start())
        stop = asyncio.ensure_future(self._signalled.wait())
        await asyncio.wait({start, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not start.done():
            start.cancel()
        try:
            await start
        except asyncio.CancelledError:
            pass  # a signal during start-up; start has released what it had
        except PulpError as error:
            stop.cancel()
            self._report(error)
            return EXIT_FAILED
        else:
            # What a start leaves behind lives as long as the process: looking through it again and again is a waste.
            gc.freeze()
            gc.set_threshold(GC_ALLOCATIONS)
            gc.enable()
            await self._until_stopped(host, stop)
        return self._farewell(host)

    def _farewell(self, host: Host | Composition) -> int:
        """Say how the host has ended; return the exit code. One cell's goodbye counts for all (spec/core §1.6)."""
        options = self._options
        if host.unclean and (options.app or options.host):
            what = "multi-application host" if options.host else "application"
            self._log.error(f"{what} shutdown failed", err="; ".join(host.unclean))
            return EXIT_FAILED
        if options.host:
            self._log.info("pulp multi-application host exited cleanly")
        elif not options.app:
            self._log.info("pulp exit clean")
        return EXIT_OK

    async def _until_stopped(self, host: Host | Composition, stop: asyncio.Future[Any]) -> None:
        """Serve until a signal comes, or every cell was stopped through the control socket."""
        from pulp_runtime.control.protocol import socket_path  # not before the host answers its clients
        from pulp_runtime.control.server import ControlServer
        from pulp_runtime.control.tail import Tail
        from pulp_runtime.control.verbs import Verbs

        tail = Tail()
        logging.getLogger("pulp").addHandler(tail)
        control = ControlServer(socket_path(), Verbs(host, tail), tail)
        await control.start()
        try:
            while not stop.done():
                await asyncio.wait({stop}, timeout=_LOOK_SECONDS)
                if host.operations.all_stopped:
                    self._log.info("all cells shut down via control socket; exiting")
                    stop.cancel()
                    break
        finally:
            await host.stop()
            await control.stop()

    def _config(self) -> dict[str, dict[str, Any]]:
        """Return what the file, the flags and their variables set; the file comes last."""
        config: dict[str, dict[str, Any]] = {}
        if self._options.config:
            from pulp_runtime.cli.config import read_config

            config = read_config(self._options.config)
        set_by_flags: dict[str, Any] = {"http2": True} if self._options.http2 else {}
        for name, variable in (("cert", "HTTP_CERT"), ("key", "HTTP_KEY")):
            if os.environ.get(variable):  # its flag is there too by now
                set_by_flags[name] = os.environ[variable]
        if set_by_flags:
            config["http"] = {**config.get("http", {}), **set_by_flags}
        return config

    def _report(self, error: PulpError) -> None:
        if self._options.host:
            self._log.error("multi-application host failed to start", err=str(error))
        elif self._options.app:
            self._log.error("application failed to start", err=str(error))
        elif isinstance(error.__cause__, HookFailed):
            self._log.error("capability setup failed", err=str(error))
        else:
            self._log.error(str(error))

    def _on_signal(self, number: int) -> None:
        name = signal.Signals(number).name
        now = time.monotonic()
        if not self._signalled.is_set():
            self._signalled_at = now
            self._log.info("signal received", signal=name)
            self._signalled.set()
        elif now - self._signalled_at > ONE_SIGNAL_SECONDS:
            self._log.warning("second signal: ending at once", signal=name)
            _end_now(EXIT_FAILED)

    def _on_hangup(self) -> None:
        """Have new connections use the certificate as it is on disk now."""
        if self._host is not None:
            self._host.reload_certificate()

    def _on_loop_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log what a callback or a protocol raised; the loop goes on."""
        error = context.get("exception")
        self._log.error("event loop error", err=context.get("message", ""), exc_info=error)


def _end_now(code: int) -> None:
    """End the process without waiting for threads or finalisers."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

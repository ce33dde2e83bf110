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
from typing import TYPE_CHECKING, Any, Final

from pulp_runtime import log
from pulp_runtime.background import new_event_loop
from pulp_runtime.cli import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from pulp_runtime.errors import HookFailed, ManifestError, PulpError

if TYPE_CHECKING:
    from pulp_runtime.host import Host

GC_ALLOCATIONS: Final = 20_000
"""How many containers more are made before Python looks for cycles; a request makes a dozen and no cycle."""
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
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        code, finished = runner.run(_Serving(options).run())
        if not finished:
            _end_now(code)  # a thread is still inside a guest; Python would wait for it
    sys.exit(code)


def _problem(options: HostOptions) -> str:
    """Say what is wrong with a command line that makes no sense; "" for one that does."""
    given = sum(map(bool, (options.host, options.app, options.manifests)))
    if not given and options.ignored:
        return f"provide exactly one of -host, -app, or -manifest; did you mean: pulp run {options.ignored}"
    if not given:
        return "provide exactly one of -host, -app, or -manifest; or: pulp run PATH... (see pulp --help)"
    if options.app and options.app in options.manifests:
        return f"{options.app} is an application, which runs alone: pulp run {options.app}"
    if given > 1:
        return "-host, -app, and -manifest are mutually exclusive"
    if options.validate_host and not options.host:
        return "-validate-host requires -host"
    if options.host:
        return "this version runs cells and one application; -host is not built yet, write -manifest or -app"
    return ""


def cells_or_app(paths: tuple[str, ...]) -> dict[str, Any]:
    """Return the options for the paths of `run`: cells, or an application; both when they are mixed."""
    apps = [path for path in paths if _is_app(path)]
    if not apps:
        return {"manifests": paths}
    return {"app": apps[0], "manifests": paths if len(paths) > 1 else ()}


def _is_app(path: str) -> bool:
    """Tell whether a path of `run` leads to an application: its manifest, or the folder that holds one."""
    from pulp_runtime.manifest.names import APP_MANIFEST

    return os.path.basename(path) == APP_MANIFEST or os.path.isfile(os.path.join(path, APP_MANIFEST))


class _Serving:
    """One run, from the manifests to the last line of the log."""

    def __init__(self, options: HostOptions) -> None:
        self._options = options
        self._log = log.Log("pulp")
        self._signalled = asyncio.Event()
        self._signalled_at = 0.0
        self._host: Host | None = None

    async def run(self) -> tuple[int, bool]:
        """Return the exit code, and whether every thread has ended."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_loop_error)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _frame: loop.call_soon_threadsafe(self._on_signal, number))
        # The host's modules take most of the time a start takes; signals are looked after meanwhile.
        from pulp_runtime.host import Host

        try:
            config = self._config()
            if config.get("http", {}).get("cert"):
                signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(self._on_hangup))
            self._host = host = Host(
                self._options.manifests,
                app=self._options.app or None,
                storage_root=self._options.storage_root,
                config=config,
            )
        except ManifestError as error:
            self._log.error("manifest load failed", err=str(error))
            return EXIT_FAILED, True
        except PulpError as error:
            self._log.error("invalid runtime input", err=str(error))
            return EXIT_FAILED, True
        try:
            code = await self._serve(host)
        except Exception as error:  # noqa: BLE001  # a bug of ours: one line with the stack in it, not a traceback
            self._log.error("pulp failed", err=repr(error), exc_info=error)
            code = EXIT_FAILED
        return code, host.finished

    async def _serve(self, host: Host) -> int:
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
            self._report(error, host)
            return EXIT_FAILED
        else:
            # What a start leaves behind lives as long as the process: looking through it again and again is a waste.
            gc.freeze()
            gc.set_threshold(GC_ALLOCATIONS)
            gc.enable()
            await self._until_stopped(host, stop)
        if host.app is None:
            self._log.info("pulp exit clean")
        elif host.unclean:  # one cell's goodbye is the application's (spec/core §1.6)
            self._log.error("application shutdown failed", err="; ".join(host.unclean))
            return EXIT_FAILED
        return EXIT_OK

    async def _until_stopped(self, host: Host, stop: asyncio.Future[Any]) -> None:
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

    def _report(self, error: PulpError, host: Host) -> None:
        if host.app is not None:
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

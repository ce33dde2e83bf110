"""Run a host until a signal: the main job."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass

from pulp_runtime import log
from pulp_runtime.cli import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from pulp_runtime.errors import ManifestError, PulpError


def _new_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's event loop, or the standard one, a fifth slower, where there is no uvloop."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        return asyncio.new_event_loop()
    return new_event_loop()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOptions:
    """What the command line says about a host; see its help."""

    manifests: tuple[str, ...] = ()
    app: str = ""
    host: str = ""
    http_port: str | None = None
    storage_root: str = "./data"
    log_format: str = "auto"
    log_level: str = "info"


def serve(options: HostOptions) -> None:
    """Run a host as `options` say; end the process with its exit code.

    0 after a clean run, 1 when something failed, 2 when the command line makes no sense.
    """
    # A variable that is set beats the flag, even if it is empty (spec/core §1.2); guests see it too.
    if options.http_port:
        os.environ.setdefault("HTTP_PORT", options.http_port)
    log.configure(options.log_format, level=options.log_level)
    code = _usage(options)
    if code is None:
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            code, finished = runner.run(_Serving(options).run())
            if not finished:
                _end_now(code)  # a thread is still inside a guest; Python would wait for it
    sys.exit(code)


def _usage(options: HostOptions) -> int | None:
    given = [bool(options.host), bool(options.app), bool(options.manifests)]
    problem = ""
    if sum(given) == 0:
        problem = "provide exactly one of -host, -app, or -manifest"
    elif sum(given) > 1:
        problem = "-host, -app, and -manifest are mutually exclusive"
    elif options.app or options.host:
        problem = "this version runs cells; -app and -host are not built yet, name the cells with -manifest"
    if not problem:
        return None
    log.Log("pulp").error("invalid runtime input", err=problem)
    return EXIT_USAGE


class _Serving:
    """One run, from the manifests to the last line of the log."""

    def __init__(self, options: HostOptions) -> None:
        self._options = options
        self._log = log.Log("pulp")
        self._signalled = asyncio.Event()

    async def run(self) -> tuple[int, bool]:
        """Return the exit code, and whether every thread has ended."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _frame: loop.call_soon_threadsafe(self._on_signal, number))
        # The host's modules take most of the time a start takes; signals are looked after meanwhile.
        from pulp_runtime.host import Host

        try:
            host = Host(
                self._options.manifests,
                storage_root=self._options.storage_root,
                http_port=self._options.http_port,
            )
        except ManifestError as error:
            self._log.error("manifest load failed", err=str(error))
            return EXIT_FAILED, True
        except PulpError as error:
            self._log.error("invalid runtime input", err=str(error))
            return EXIT_FAILED, True
        code = await self._serve(host)
        return code, host.finished

    async def _serve(self, host: object) -> int:
        from pulp_runtime.host import Host

        assert isinstance(host, Host)  # noqa: S101  # imported late, see run
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
            self._log.error(str(error))
            stop.cancel()
            return EXIT_FAILED
        else:
            await stop
            await host.stop()
        self._log.info("pulp exit clean")
        return EXIT_OK

    def _on_signal(self, number: int) -> None:
        if self._signalled.is_set():
            self._log.warning("second signal: ending at once", signal=signal.Signals(number).name)
            _end_now(EXIT_FAILED)
        self._log.info("signal received", signal=signal.Signals(number).name)
        self._signalled.set()


def _end_now(code: int) -> None:
    """End the process without waiting for threads or finalisers."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

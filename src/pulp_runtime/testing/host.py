"""What a capability's hooks see of a host: a `SetupEnv` whose every door works, on a clock the test moves."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from pulp_runtime.ext import Endpoint, Posted, Services, SetupEnv, StepEvent
from pulp_runtime.testing.lines import KeptLog, Logged
from pulp_runtime.testing.loop import JumpingLoop

_TURNS: Final = 16
"""How often the loop goes round for what was just scheduled, and for what that schedules in turn."""


class FakeHost:
    """The host, as far as hooks may use it; calling it makes a `SetupEnv`.

        with FakeHost() as host:
            clock.setup(host(config={"every_ms": 10}))
            host.advance(0.03)
            assert len(host.posted) == 3

    What tasks and deferred callbacks raise is raised again by `advance`, `turn` and `close`; a real host logs it. Use
    it in synchronous tests: it has an event loop of its own, made when the first task or callback needs it.

    Attributes:
        storage_root: a temporary folder, removed by `close`, unless one was given.
        posted: what went through `post` of an env made here, oldest first.
        answer: what `post` answers.
        endpoints: what was reported as reachable.
        logged: what was logged through `logger`.
    """

    def __init__(self, storage_root: Path | None = None) -> None:
        self._folder: Final = tempfile.TemporaryDirectory(prefix="pulp-test-")
        self.folder: Final = Path(self._folder.name)
        self.storage_root: Final = storage_root or self.folder / "data"
        self.posted: Final[list[StepEvent]] = []
        self.answer = Posted.ACCEPTED
        self.endpoints: Final[list[Endpoint]] = []
        self.logged: Final[list[Logged]] = []
        self.failures: Final[list[BaseException]] = []
        self._services: Final = Services()
        self._loop: JumpingLoop | None = None
        self._tasks: Final[list[asyncio.Task[None]]] = []
        self._closed = False

    def __call__(
        self,
        capability: str = "",
        *,
        config: Mapping[str, Any] | None = None,
        http_port: str | int = "127.0.0.1:0",
        post: Callable[[StepEvent], Posted] | None = None,
    ) -> SetupEnv:
        """Return what a capability is set up with.

        Args:
            capability: its name, for the log.
            config: the operator's settings for it.
            http_port: port, or `host:port`, of the shared listener.
            post: who gets its events; `posted` by default.
        """
        return SetupEnv(
            storage_root=self.storage_root,
            logger=KeptLog(self.logged, capability=capability),
            post=post or self._post,
            spawn=self._spawn,
            defer=self.defer,
            reachable=self.endpoints.append,
            config=config or {},
            http_port=str(http_port),
            services=self._services,
        )

    def _post(self, event: StepEvent) -> Posted:
        self.posted.append(event)
        return self.answer

    # The loop ---------------------------------------------------------------------------------------------------

    def _running(self) -> JumpingLoop:
        if self._closed:
            raise RuntimeError("the fake host is closed")
        if self._loop is None:
            self._loop = JumpingLoop()
        return self._loop

    @property
    def now(self) -> float:
        """Seconds this host has lived through, by its own clock."""
        return 0.0 if self._loop is None else self._loop.time()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        if self._closed:
            coroutine.close()
        task = self._running().create_task(coroutine)
        task.add_done_callback(self._task_done)
        self._tasks.append(task)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures.append(error)

    def defer(self, callback: Callable[[], object]) -> None:
        """Run `callback` in the loop's next turn; from any thread."""

        def run() -> None:
            try:
                callback()
            except Exception as error:  # noqa: BLE001  # raised again by whoever turns the loop
                self.failures.append(error)

        self._running().call_soon_threadsafe(run)

    def soon(self, callback: Callable[[], object]) -> None:
        """Run `callback` in the loop's next turn if time is passing; do nothing if it stands still."""
        if self._loop is not None and self._loop.is_running():
            self.defer(callback)

    def advance(self, seconds: float) -> None:
        """Let time pass for tasks and timers; a sleep takes as long as a test wants it to.

        Work in threads is not waited for, except by a task that waits for it with nothing else to do.
        """
        self._run(seconds)

    def turn(self) -> None:
        """Run what is ready now, and no timer that is not due."""
        if self._loop is None:
            self.raise_failure()
        elif not self._loop.is_running():
            self._run(0)

    def _run(self, seconds: float) -> None:
        async def run() -> None:
            await asyncio.sleep(seconds)
            for _ in range(_TURNS):
                await asyncio.sleep(0)

        loop = self._running()
        loop.run_until_complete(run())
        self.raise_failure()

    def raise_failure(self) -> None:
        """Raise what a task or a callback raised first, if anything did."""
        if self.failures:
            first = self.failures[0]
            self.failures.clear()
            raise first

    # The end ----------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Tell every task that the host stops."""
        for task in self._tasks:
            task.cancel()

    def finish(self) -> None:
        """Wait for every task, as long as it takes by this host's clock."""
        if self._loop is not None and self._tasks:
            self._loop.run_until_complete(asyncio.wait(self._tasks))
        self._tasks.clear()

    def close(self) -> None:
        """End tasks, run what is deferred, remove the folder. May be called again."""
        if self._closed:
            return
        self.cancel()
        try:
            self.finish()
            self.turn()
        finally:
            self._closed = True
            if self._loop is not None:
                self._loop.run_until_complete(self._loop.shutdown_asyncgens())
                self._loop.run_until_complete(self._loop.shutdown_default_executor())
                self._loop.close()
            self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _stack: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception:
            if kind is None:  # else what failed first is what the test should show
                raise

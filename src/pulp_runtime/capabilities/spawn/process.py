"""`spawn.process`: run programs that the operator allows (spec/capabilities §12).

    worker   process_run ── permits ── pool ── id            process_result ── status, and the result once
    loop     start in a thread ─▶ output ─▶ ended or late ─▶ kill the tree ─▶ result

No shell reads anything. What a program started ends with it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from pulp_runtime.abi.process import ProcessResult, ProcessRun
from pulp_runtime.capabilities.operator import Variable, operator_settings
from pulp_runtime.capabilities.pool import COMPLETE, FAILED, Bounds, Outcome, TaskPool
from pulp_runtime.capabilities.spawn.child import Child, ended_for_good, outputs, started
from pulp_runtime.capabilities.spawn.permits import Folders, Programs, Refused, environment
from pulp_runtime.capabilities.spawn.warden import Warden
from pulp_runtime.ext import U32, Capability, CellRef, Errno, Guest, HostError, SetupEnv, host_function
from pulp_runtime.log import Log

NAME: Final = "spawn.process"
PROGRAM_DENIED: Final = 5
FOLDER_DENIED: Final = 6
NOT_CANCELLED: Final = 1

DEFAULT_MS: Final = 5 * 60 * 1000
MOST_MS: Final = 60 * 60 * 1000
NO_DEADLINE: Final = 0xFFFF_FFFF
KEEP_SECONDS: Final = 600.0
DRAIN_SECONDS: Final = 5.0
"""How long the output of a program that has ended may be held open by what it started."""
MAX_ARGUMENT_BYTES: Final = 1024 * 1024
"""Arguments and environment together."""

_encode: Final = msgspec.msgpack.Encoder().encode

Count = Annotated[int, msgspec.Meta(ge=1, le=4096)]


class ProcessSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator may set.

    Attributes:
        allow_bins: names or absolute paths of programs that cells may run; none when empty.
        run_roots: folders in which they may begin when a cell names one.
        max_concurrency: processes at once.
        max_queued: processes that may wait for that.
        max_per_cell: processes of one cell that wait or run.
        max_output_bytes: of each stream; what is over is dropped.
        pass_env: variables of the host that they get, beside a few that are no secrets; `*` stands for anything.
        set_env: variables that a cell may set although they make programs run other code.
    """

    allow_bins: tuple[str, ...] = ()
    run_roots: tuple[str, ...] = ()
    max_concurrency: Count = 16
    max_queued: Annotated[int, msgspec.Meta(ge=0, le=65_536)] = 256
    max_per_cell: Count = 4
    max_output_bytes: Annotated[int, msgspec.Meta(ge=0, le=256 * 1024 * 1024)] = 32 * 1024 * 1024
    pass_env: tuple[str, ...] = ()
    set_env: tuple[str, ...] = ()


VARIABLES: Final = {
    "allow_bins": Variable("PROCESS_ALLOW_BINS"),
    "run_roots": Variable("PROCESS_RUN_ROOTS", os.pathsep),
    "max_concurrency": Variable("PROCESS_MAX_CONCURRENCY"),
    "max_queued": Variable("PROCESS_MAX_QUEUED"),
    "max_per_cell": Variable("PROCESS_MAX_PER_CELL"),
    "max_output_bytes": Variable("PROCESS_MAX_OUTPUT_BYTES"),
    "pass_env": Variable("PROCESS_PASS_ENV"),
    "set_env": Variable("PROCESS_SET_ENV"),
}


class ProcessCellSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a cell's manifest may set.

    Attributes:
        allow_bins: of what the operator allows, only these.
    """

    allow_bins: tuple[str, ...] | None = None


class Processes:
    """The processes of all cells."""

    def __init__(self) -> None:
        self._settings = ProcessSettings()
        self._programs = Programs((), "allow_bins")
        self._folders = Folders((), "run_roots")
        self._own: Final[dict[str, Programs | None]] = {}
        self._pool: Final = TaskPool(lambda error: _failure(f"{type(error).__name__}"))
        self._warden = Warden(Log("pulp", capability=NAME))

    # What cells call --------------------------------------------------------------------------------------------

    @host_function
    def process_run(self, cell: CellRef, request: ProcessRun) -> U32:
        """Start a program; answer the id of the task, 100 or more.

        Answers 4 for arguments that are none or too long, 5 for a program that is not allowed, 6 for a folder that is
        not, 11 for a variable that is not, 15, 16 and 17 when there are too many tasks, 99 when it is not set up.
        """
        argv = request.argv or []
        program = self._check(cell, request, argv)
        return self._pool.submit(
            cell, lambda: self._run(cell, program, request), is_free=request.timeout_ms == NO_DEADLINE
        )

    @host_function
    def process_result(self, guest: Guest, task: U32, address_out: U32, length_out: U32) -> U32:
        """Hand over what came of a task, once.

        Answers 0 while it runs, 1 with the result of a program that ended by itself, 2 with that of one that could not
        be started or took too long, 4 for a task that is none of the cell's; 7 or 8 when there is no place for it.
        """
        return self._pool.deliver(guest, task, address_out, length_out)

    @host_function
    def process_cancel(self, cell: CellRef, task: U32) -> U32:
        """End a task with everything it started; answer 0, or 1 when there is none that runs."""
        return Errno.OK if self._pool.cancel(cell, task) else NOT_CANCELLED

    @host_function
    def process_pending(self, cell: CellRef) -> U32:
        """Answer how many tasks of the cell wait or run."""
        return self._pool.pending(cell)

    def _check(self, cell: CellRef, request: ProcessRun, argv: list[str]) -> str:
        """Return the file to run, "" if there is none under an allowed name."""
        env = request.env or {}
        size = sum(len(text.encode(errors="replace")) for text in (*argv, *env, *env.values()))
        if not argv or not argv[0] or any("\0" in text for text in argv) or size > MAX_ARGUMENT_BYTES:
            raise HostError(Errno.FAILED, "argv is empty, too long or has NUL in it")
        code = PROGRAM_DENIED
        try:
            program = self._programs.find(argv[0])
            own = self._own[cell.id]
            if own is not None:
                own.find(argv[0])
            code = FOLDER_DENIED
            if request.dir:
                self._folders.check(request.dir)
            code = Errno.DENIED
            self._environment(env)
        except Refused as refused:
            cell.log.warning("process refused", program=argv[0], reason=str(refused))
            raise HostError(code, str(refused)) from None
        return program

    def _environment(self, wanted: Mapping[str, str]) -> dict[str, str]:
        return environment(wanted, self._settings.pass_env, self._settings.set_env)

    # On the loop ------------------------------------------------------------------------------------------------

    async def _run(self, cell: CellRef, program: str, request: ProcessRun) -> Outcome:
        """Run a program to its end, or to its deadline."""
        argv = request.argv or []
        if not program:
            return _failure(f"{argv[0]}: there is no such program")
        try:
            child = await started(lambda: self._start(program, request))
        except (OSError, ValueError, Refused) as error:
            return _failure(str(error))
        cell.log.debug("process started", program=program, pid=child.process.pid)
        problem = ""
        async with outputs(child, self._settings.max_output_bytes) as (stdout, stderr):
            try:
                async with asyncio.timeout(_seconds(request.timeout_ms)):
                    await child.ended()
                await asyncio.wait((stdout.finished, stderr.finished), timeout=DRAIN_SECONDS)
            except TimeoutError:
                problem = f"it took longer than {_seconds(request.timeout_ms):g} s"
            finally:
                code = await ended_for_good(child)
            if problem:
                return _outcome(FAILED, -1, bytes(stdout.data), bytes(stderr.data), problem)
            if code < 0:
                return _outcome(COMPLETE, -1, bytes(stdout.data), bytes(stderr.data), f"signal: {_signal(-code)}")
            return _outcome(COMPLETE, code, bytes(stdout.data), bytes(stderr.data))

    def _start(self, program: str, request: ProcessRun) -> Child:
        with self._folders.opened(request.dir) as folder:
            return Child(
                request.argv or [],
                self._warden,
                env=self._environment(request.env or {}),
                executable=program,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )

    # Hooks ------------------------------------------------------------------------------------------------------

    def setup(self, env: SetupEnv) -> None:
        """Read the operator's settings; nothing is allowed by default."""
        self._settings = most = operator_settings(env, ProcessSettings, VARIABLES)
        self._programs = Programs(most.allow_bins, "allow_bins")
        self._folders = Folders(most.run_roots, "run_roots")
        self._warden = env.services.get(Warden, lambda: Warden(env.logger))
        bounds = Bounds(
            running=most.max_concurrency,
            queued=most.max_queued,
            per_cell=most.max_per_cell,
            keep_seconds=KEEP_SECONDS,
        )
        self._pool.open(env, bounds)
        env.spawn(self._pool.serve())
        if not most.allow_bins:
            env.logger.warning("no program may be run", reason="PROCESS_ALLOW_BINS is empty")

    def setup_cell(self, cell: CellRef) -> None:
        """Read what the cell's manifest leaves it of what the operator allows."""
        own = cell.settings(NAME, ProcessCellSettings).allow_bins
        self._own[cell.id] = None if own is None else Programs(own, f'[settings."{NAME}"] allow_bins')

    def teardown_cell(self, cell_id: str) -> None:
        """End the cell's tasks, and forget their results."""
        self._pool.drop(cell_id)

    def teardown(self) -> None:
        """Let the warden go; what ran has ended with the pool."""
        self._warden.close()


def _seconds(timeout_ms: int) -> float | None:
    if timeout_ms == NO_DEADLINE:
        return None
    return min(timeout_ms or DEFAULT_MS, MOST_MS) / 1000


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _failure(error: str) -> Outcome:
    return _outcome(FAILED, -1, b"", b"", error)


def _outcome(status: int, code: int, stdout: bytes, stderr: bytes, error: str = "") -> Outcome:
    return Outcome(status, _encode(ProcessResult(code, stdout, stderr, error)))


def capability() -> Capability:
    """Return the capability."""
    return Capability.of(NAME, Processes())

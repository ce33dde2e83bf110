"""The host functions of `spawn.docker` (spec/capabilities §14)."""

from __future__ import annotations

import asyncio
import json
import os
import posixpath
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import msgspec
from docker.errors import APIError, NotFound
from pulp_runtime.ext import U32, Capability, Errno, Guest, HostError, SetupEnv, host_function

from pulp_ext_docker import guard
from pulp_ext_docker.build import Builder, Order
from pulp_ext_docker.daemon import RETRY_SECONDS, Client, Daemon, failed
from pulp_ext_docker.guard import CELL_LABEL, Plan, Refused
from pulp_ext_docker.loop import Unanswered, lines
from pulp_ext_docker.messages import (
    Build,
    BuildStatus,
    Create,
    Event,
    EventsPoll,
    Exec,
    FilesDelete,
    FilesRead,
    FilesWrite,
    Id,
    ListQuery,
    Logs,
    LogText,
    Name,
    Output,
    Server,
    Stats,
)
from pulp_ext_docker.ring import MOST_EVENTS, Ring
from pulp_ext_docker.server import inspected, listed
from pulp_ext_docker.settings import NAME, Settings, read_settings
from pulp_ext_docker.stats import Counters
from pulp_ext_docker.streams import FILE_BYTES, Failed, all_asked, archive_of, asked, only_file, output

LOG_LINES: Final = 200
MOST_LOG_LINES: Final = 10_000
_POLLED_EVENTS: Final = 100
_STOP_SECONDS: Final = 10
_EVENTS: Final = "/events?filters=" + quote('{"type":["container"]}')
_FILTERS: Final = ("ancestor", "before", "exited", "health", "id", "label", "name", "network", "since", "status")


class Runtime:
    """Containers of cells.

    Args:
        environment: where the operator's variables are.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment: Final = environment
        self._counters: Final = Counters()
        self._ring: Final = Ring()

    # Hooks ------------------------------------------------------------------------------------------------------

    def setup(self, env: SetupEnv) -> None:
        """Read the operator's settings, and begin to listen to events.

        Raises:
            ExtensionError: a setting cannot be used.
        """
        self._settings: Settings = read_settings(env.config, self._environment)
        self._daemon = Daemon(self._settings, env.storage_namespaces)
        self._env = env

        def told(order: Order, error: str) -> None:
            level = env.logger.warning if error else env.logger.info
            level(
                "image not built" if error else "image built", image=order.tag, **({"reason": error} if error else {})
            )

        self._builder = Builder(self._settings.socket, told)
        env.spawn(self._listen())

    async def _listen(self) -> None:
        """Keep what the daemon tells; ask again every 10 s while it is away, which is said once."""
        said = False
        while True:
            try:
                async with lines(self._settings.socket, "GET", _EVENTS, {}) as told:
                    self._ring.listening, said = True, False
                    async for event in told:
                        self._ring.add(event)
                reason = "it closed the stream"
            except Unanswered as error:
                reason = str(error)
            finally:
                self._ring.listening = False
            if not said:
                self._env.logger.warning("docker events are not heard", reason=reason)
            said = True
            await asyncio.sleep(RETRY_SECONDS)

    # Containers -------------------------------------------------------------------------------------------------

    @host_function(blocking=True)
    def docker_list(self, guest: Guest, query: ListQuery | None) -> bytes:
        """Deliver every container, also those that have stopped and those of others; nothing if there is none."""
        wanted = {} if query is None else query.filter
        with self._daemon.asked_by(guest, "docker_list") as client:
            if unknown := sorted(set(wanted) - set(_FILTERS)):
                raise Refused(f"no filter is called {unknown[0][:64]!r}; there are {', '.join(_FILTERS)}")
            found = listed(client.containers(all=True, filters=dict(wanted)))
        return msgspec.msgpack.encode(found) if found else b""

    @host_function(blocking=True)
    def docker_get(self, guest: Guest, get: Name) -> Server:
        """Deliver one container by its name, with or without `pulp-<cell>-` in front."""
        with self._daemon.asked_by(guest, "docker_get") as client:
            return inspected(self._named(client, guard.checked_id(get.name)))

    def _named(self, client: Client, name: str) -> Any:
        """Return the description of a container that is called so; the cell's own one goes first."""
        if self._settings.scoped:
            try:
                return client.inspect_container(guard.own_name(client.owner, name))
            except NotFound:
                pass
        return client.inspect_container(name)

    @host_function(blocking=True)
    def docker_create(self, guest: Guest, create: Create) -> Server:
        """Make a container of the cell's own, start it and deliver it."""
        with self._daemon.asked_by(guest, "docker_create") as client:
            plan = Plan(create, self._settings)
            name = self._name(client.owner, create.name)
            own = {"label": f"{CELL_LABEL}={client.owner}"}
            if len(client.containers(all=True, filters=own)) >= self._settings.max_containers:
                raise Failed(
                    f"the cell has {self._settings.max_containers} containers; DOCKER_MAX_CONTAINERS is the limit"
                )
            made = client.create_container(
                plan.image,
                name=name,
                environment=plan.environment,
                ports=plan.ports,
                labels={CELL_LABEL: client.owner},
                host_config=client.create_host_config(**plan.host),
                networking_config=_addressed(client, plan),
            )
            try:
                client.start(made["Id"])
                return inspected(client.inspect_container(made["Id"]))
            except BaseException:
                _remove(client, made["Id"])
                raise

    def _name(self, owner: str, name: str) -> str | None:
        if self._settings.scoped:
            return guard.own_name(owner, name or os.urandom(6).hex())
        return guard.checked_id(name) if name else None

    @host_function(blocking=True)
    def docker_destroy(self, guest: Guest, destroy: Id) -> None:
        """Stop and remove a container of the cell's own."""
        with self._daemon.asked_by(guest, "docker_destroy") as client:
            client.remove_container(client.own(destroy.id)["Id"], force=True, v=True)

    @host_function(blocking=True)
    def docker_restart(self, guest: Guest, restart: Id) -> None:
        """Stop a container of the cell's own, within 10 s, and start it again."""
        with self._daemon.asked_by(guest, "docker_restart") as client:
            found = client.own(restart.id)
            client.restart(found["Id"], timeout=max(0, min(_STOP_SECONDS, int(client.left()) - 1)))

    @host_function(blocking=True)
    def docker_exec(self, guest: Guest, run: Exec) -> Output:
        """Run a command in a container of the cell's own; deliver what it wrote when it has ended."""
        with self._daemon.asked_by(guest, "docker_exec") as client:
            return Output(_ran(client, client.own(run.id)["Id"], guard.words(run.cmd)))

    @host_function(blocking=True)
    def docker_logs(self, guest: Guest, logs: Logs) -> LogText:
        """Deliver the last lines that a container of the cell's own wrote."""
        with self._daemon.asked_by(guest, "docker_logs") as client:
            if not 0 <= logs.tail <= MOST_LOG_LINES:
                raise Refused(f"tail is not 0..{MOST_LOG_LINES}")
            found = client.own(logs.id)
            terminal = bool((found.get("Config") or {}).get("Tty"))
            query = f"stdout=1&stderr=1&tail={logs.tail or LOG_LINES}"
            with asked(client, "GET", f"/containers/{found['Id']}/logs?{query}") as stream:
                return LogText(output(stream, terminal=terminal, last=True))

    @host_function(blocking=True)
    def docker_stats(self, guest: Guest, stats: Id) -> Stats:
        """Deliver what a container of the cell's own uses; the daemon takes a second to know."""
        with self._daemon.asked_by(guest, "docker_stats") as client:
            found = client.own(stats.id)
            counted = client.stats(found["Id"], stream=False)
            return self._counters.stats(found["Id"], found["Name"], counted)

    @host_function(blocking=True)
    def docker_stats_all(self, guest: Guest, _req_ptr: U32, _req_len: U32) -> list[Stats]:
        """Deliver what every running container uses, of others too; processors since the last time it was asked."""
        with self._daemon.asked_by(guest, "docker_stats_all") as client:
            running = listed(client.containers())
            counted = all_asked(client, [f"/containers/{one.id}/stats?stream=0&one-shot=1" for one in running])
            return [
                self._counters.stats(one.id, one.name, json.loads(count))
                for one, count in zip(running, counted, strict=True)
                if count is not None  # it has ended meanwhile
            ]

    # Files ------------------------------------------------------------------------------------------------------

    @host_function(blocking=True)
    def docker_files_read(self, guest: Guest, read: FilesRead) -> bytes:
        """Deliver a file of a container of the cell's own, as it is."""
        with self._daemon.asked_by(guest, "docker_files_read") as client:
            path = guard.inner_path(read.path)
            found = client.own(read.id)["Id"]
            with asked(client, "GET", f"/containers/{found}/archive?path={quote(path, safe='')}") as stream:
                return only_file(stream)

    @host_function(blocking=True)
    def docker_files_write(self, guest: Guest, write: FilesWrite) -> None:
        """Put a file into a container of the cell's own, in a folder that is there."""
        with self._daemon.asked_by(guest, "docker_files_write") as client:
            path = guard.inner_path(write.path)
            if len(write.data) > FILE_BYTES:
                raise Refused(f"data has more than {FILE_BYTES:,} bytes")
            folder, name = posixpath.split(posixpath.normpath(path))
            client.put_archive(client.own(write.id)["Id"], folder, archive_of(name, write.data))

    @host_function(blocking=True)
    def docker_files_delete(self, guest: Guest, delete: FilesDelete) -> None:
        """Delete a file in a container of the cell's own that runs and has `rm`; 0 also when there is none."""
        with self._daemon.asked_by(guest, "docker_files_delete") as client:
            path = guard.inner_path(delete.path)
            _ran(client, client.own(delete.container)["Id"], ["rm", "-f", "--", path], must_succeed=True)

    # Events and builds ------------------------------------------------------------------------------------------

    @host_function
    def docker_events_poll(self, poll: EventsPoll) -> list[Event]:
        """Deliver events of containers after a moment, oldest first."""
        if not 0 <= poll.limit <= MOST_EVENTS:
            raise HostError(Errno.EMPTY, f"limit is not 0..{MOST_EVENTS}")
        if not self._ring.listening:
            raise HostError(Errno.UNAVAILABLE, "the daemon's events are not heard")
        return self._ring.since(poll.since_nanos, poll.limit or _POLLED_EVENTS)

    @host_function
    def docker_build(self, guest: Guest, build: Build) -> None:
        """Begin to build an image from a folder of the operator's templates."""
        if self._settings.templates is None:
            raise failed(guest.cell, "docker_build", "TEMPLATES_DIR is not set", Errno.UNAVAILABLE)
        try:
            arguments, tag = guard.variables(build.build_args), guard.tag(build.image_tag)
            folder = guard.template(build.build_dir, self._settings.templates)
        except Refused as error:
            raise failed(guest.cell, "docker_build", str(error), Errno.EMPTY) from None
        if not folder.is_dir():
            raise HostError(Errno.NOT_FOUND, "no such template")
        if not self._builder.begin():
            raise HostError(Errno.DENIED, "a build is running")
        order = Order(folder, tag, arguments)
        self._env.defer(lambda: self._env.spawn(self._builder.run(order)))

    @host_function
    def docker_build_status(self, _req_ptr: U32, _req_len: U32) -> BuildStatus:
        """Deliver whether an image is being built, and how the last build ended."""
        return self._builder.status()


def _addressed(client: Client, plan: Plan) -> Any:
    """Return which address the container has in its network; None leaves it to the daemon."""
    if not plan.ip:
        return None
    version = "ipv6_address" if ":" in plan.ip else "ipv4_address"
    return client.create_networking_config({plan.network: client.create_endpoint_config(**{version: plan.ip})})


def _remove(client: Client, identity: str) -> None:
    """Remove a container that could not be started; that it could not is what is told."""
    try:
        client.remove_container(identity, force=True, v=True)
    except (APIError, Failed):
        pass


def _ran(client: Client, identity: str, command: list[str], *, must_succeed: bool = False) -> str:
    """Run a command inside; return what it wrote.

    Raises:
        Failed: it must succeed and did not.
    """
    made = client.exec_create(identity, command)["Id"]
    with asked(client, "POST", f"/exec/{made}/start", {"Detach": False, "Tty": False}) as stream:
        written = output(stream, terminal=False)
    if must_succeed and (status := client.exec_inspect(made).get("ExitCode")):
        raise Failed(f"{command[0]} ended with {status}: {written.strip()}")
    return written


def capability() -> Capability:
    """Return the capability; the entry point."""
    return Capability.of(NAME, Runtime(), provider="pulp_ext_docker")

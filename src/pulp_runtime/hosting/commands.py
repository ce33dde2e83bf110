"""Named calls for operators: what a program offers its own people to do to an application (spec/core §7.10).

They are for the program the host runs in: neither the command line nor the control socket knows them.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

from pulp_runtime.errors import OperatorCommandError
from pulp_runtime.hosting.access import ApplicationIdentity, ProviderAccess

NAME_BYTES: Final = 128
MOST_REQUEST_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorCommand:
    """One function of one cell, under a name of its own.

    Attributes:
        name: how it is invoked: 1 to 128 bytes, without blanks around it.
        application: whose cell it is.
        cell: address of the cell in the application.
        function: one that the cell provides.
        max_request_bytes: longest request, 1 to 1 MiB. A longer one is refused before the cell sees it.

    Raises:
        OperatorCommandError: one of these does not hold.
    """

    name: str
    application: ApplicationIdentity
    cell: str
    function: str
    max_request_bytes: int = MOST_REQUEST_BYTES

    def __post_init__(self) -> None:
        parts = (self.name, *self.application, self.cell, self.function)
        if (
            not all(part.strip() for part in parts)
            or self.name != self.name.strip()
            or len(self.name.encode()) > NAME_BYTES
            or not 1 <= self.max_request_bytes <= MOST_REQUEST_BYTES
        ):
            raise OperatorCommandError(
                f"operator command: descriptor is invalid: {self!r}; every part is needed, the name has at most "
                f"{NAME_BYTES} bytes, and a request 1 to {MOST_REQUEST_BYTES}"
            )


class OperatorCommands:
    """Commands by name. Safe from any thread; a command that has been registered stays."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._commands: Final[dict[str, OperatorCommand]] = {}
        self._active: Final[dict[str, ProviderAccess]] = {}

    def register(self, command: OperatorCommand) -> OperatorCommand:
        """Add a command and return it; nothing is called.

        Raises:
            OperatorCommandError: there is one of that name.
        """
        with self._lock:
            if command.name in self._commands:
                raise OperatorCommandError(f"operator command {command.name!r} is registered already")
            self._commands[command.name] = command
        return command

    def bind(self, access: ProviderAccess) -> None:
        """Have the commands of an application instance that has started go to it; those registered later wait.

        Raises:
            OperatorCommandError: they go to another one of the same identity.
        """
        with self._lock:
            own = [one.name for one in self._commands.values() if one.application == access.identity]
            if taken := [name for name in own if name in self._active]:
                raise OperatorCommandError(
                    f"operator command {taken[0]!r} is active already: {access.identity} runs twice"
                )
            self._active.update(dict.fromkeys(own, access))

    def unbind(self, access: ProviderAccess) -> None:
        """Make the commands of an application instance inactive; it is about to stop."""
        with self._lock:
            for name in [name for name, other in self._active.items() if other is access]:
                del self._active[name]

    def invoke(self, name: str, request: bytes = b"", *, seconds: float | None = None) -> bytes:
        """Carry out a command; return what the cell answers. From any thread but the host's loop.

        Raises:
            OperatorCommandError: it is not registered, not active, or the request exceeds its limit.
            CellError: see `ProviderAccess.call`.
        """
        with self._lock:
            command = self._commands.get(name)
            access = self._active.get(name)
        if command is None:
            raise OperatorCommandError(f"operator command {name!r} is not registered")
        if access is None:
            raise OperatorCommandError(f"operator command {name!r} is not active: {command.application} does not run")
        if len(request) > command.max_request_bytes:
            raise OperatorCommandError(
                f"operator command {name!r}: request exceeds limit: {len(request)} bytes, at most "
                f"{command.max_request_bytes}"
            )
        return access.call(command.cell, command.function, bytes(request), seconds=seconds)


operator_commands: Final = OperatorCommands()
"""The commands of this process."""

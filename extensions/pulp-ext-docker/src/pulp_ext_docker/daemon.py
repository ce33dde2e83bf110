"""Asks the daemon: each call with its cell's deadline, errors as the contract's codes (spec/capabilities §14)."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import docker
import requests
from docker.errors import APIError, DockerException, NotFound
from pulp_runtime.ext import CellRef, Errno, Guest, HostError

from pulp_ext_docker.guard import Refused, checked_id, owns
from pulp_ext_docker.settings import Settings
from pulp_ext_docker.streams import Failed, Missing

RETRY_SECONDS: Final = 10.0
"""How long a daemon that could not be reached is left alone."""
_OLDEST: Final = "1.24"
"""The oldest version of the API that the library knows; it is not used but to ask for the right one."""
_MOST_MARGIN: Final = 0.5
_MOST_REASON: Final = 200


class Client(docker.APIClient):  # type: ignore[misc]  # the library has no types
    """The library's client for one call of a cell: everything it sends ends at one deadline.

    Attributes:
        deadline: by `time.monotonic`.
        socket: the path of the daemon's socket.
        owner: the cell that asks.
    """

    def __init__(self, settings: Settings, owner: str, deadline: float, version: str) -> None:
        self.deadline: Final = deadline
        self.socket: Final = settings.socket
        self.owner: Final = owner
        self._scoped: Final = settings.scoped
        super().__init__(f"unix://{settings.socket}", version=version, timeout=self.left())

    def left(self) -> float:
        """Return the seconds that are left; raise `Failed` if none are."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Failed("the deadline of the call has passed")
        return left

    def send(self, request: Any, **options: Any) -> Any:
        """Send with what is left of the deadline; see `requests.Session.send`."""
        return super().send(request, **{**options, "timeout": self.left()})

    def own(self, identity: str) -> dict[str, Any]:
        """Return the daemon's description of a container of the cell's own.

        Raises:
            HostError: `NOT_FOUND`, also if it is another's: who does not own it does not learn of it.
        """
        described: dict[str, Any] = self.inspect_container(checked_id(identity))
        if self._scoped and not owns(self.owner, described):
            raise HostError(Errno.NOT_FOUND, "another's")
        return described


class Daemon:
    """The daemon of this machine. From any thread.

    Args:
        settings: the operator's.
        names: what stands in for the names of cells, by their ids.
    """

    def __init__(self, settings: Settings, names: Mapping[str, str]) -> None:
        self._settings: Final = settings
        self._names: Final = names
        self._version = ""
        self._away_until = 0.0

    @contextmanager
    def asked_by(self, guest: Guest, function: str) -> Iterator[Client]:
        """Give out a client for one call; what goes wrong becomes a code, and a record in the cell's log.

        Raises:
            HostError: 1 refused by the guard; 6 no such container or image; 10 the daemon cannot be reached, and has
                not been asked again within 10 s; 4 anything else.
        """
        cell = guest.cell
        if time.monotonic() < self._away_until:
            raise HostError(Errno.UNAVAILABLE, "the daemon was not there a moment ago")
        left = guest.seconds_left()
        # The cell is to hear of it before its own deadline passes.
        deadline = time.monotonic() + left - min(_MOST_MARGIN, left / 4)
        try:
            self._knock()
            owner = self.owner(cell)
            with Client(self._settings, owner, deadline, self._version or self._spoken(owner, deadline)) as client:
                yield client
        except Refused as error:
            raise failed(cell, function, str(error), Errno.EMPTY) from None
        except (NotFound, Missing) as error:
            raise HostError(Errno.NOT_FOUND, str(error)) from None
        except APIError as error:
            raise failed(cell, function, f"{error.explanation or error}") from None
        except Failed as error:
            raise failed(cell, function, str(error)) from None
        except (DockerException, requests.RequestException, OSError) as error:
            raise self._unheard(cell, function, error) from None

    def _knock(self) -> None:
        """See whether anybody is there; the library, when nobody is, forgets to close its socket."""
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(1.0)
            one.connect(self._settings.socket)

    def owner(self, cell: CellRef) -> str:
        """Return what stands for a cell in names and labels. A cell that is placed several times is several owners."""
        return self._names.get(cell.id, cell.name).replace("@", ".")

    def _spoken(self, owner: str, deadline: float) -> str:
        """Ask the daemon which version of the API it speaks; once, until it goes away."""
        with Client(self._settings, owner, deadline, _OLDEST) as client:
            self._version = str(client.version(api_version=False)["ApiVersion"])
        return self._version

    def _unheard(self, cell: CellRef, function: str, error: Exception) -> HostError:
        """Return 4 for a daemon that is slow or that the library does not understand, 10 for one that is not there."""
        chain = list(_chain(error))
        if any(isinstance(one, requests.Timeout | TimeoutError) for one in chain):
            return failed(cell, function, "the daemon did not answer in time")
        if not any(isinstance(one, requests.ConnectionError | OSError) for one in chain):
            return failed(cell, function, str(error))
        self._away_until = time.monotonic() + RETRY_SECONDS
        self._version = ""
        reason = getattr(chain[-1], "strerror", None) or type(chain[-1]).__name__
        return failed(cell, function, f"the daemon cannot be reached: {reason}", Errno.UNAVAILABLE)


def failed(cell: CellRef, function: str, reason: str, code: int = Errno.FAILED) -> HostError:
    """Return a refusal that has been logged."""
    cell.log.warning("docker call failed", function=function, code=int(code), reason=reason[:_MOST_REASON])
    return HostError(code, reason)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Give out an error and what it came from: the library wraps the reason several times over."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__

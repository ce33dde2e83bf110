"""Who something belongs to: application, its instance, cell, its instance (spec/core §6.2).

Cells run outside an application have a *legacy* scope: it stands for their bare name.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")

ROUTING_PREFIX: Final = "pulp-scope/v1/"
_LEGACY: Final = ("legacy", "default")
_DEFAULT: Final = "default"


class Scope(NamedTuple):
    """A four-part identity, comparable and usable as a key.

    Attributes:
        application: id of the application.
        application_instance: which instance of it.
        cell: the cell's name.
        cell_instance: which placement of it.
    """

    application: str
    application_instance: str
    cell: str
    cell_instance: str

    def checked(self) -> Scope:
        """Return the scope itself if every part says something.

        Raises:
            ValueError: a part is blank or contains NUL.
        """
        for name, value in self._asdict().items():
            _check(f"scope {name.replace('_', ' ')}", value)
        return self

    @property
    def is_legacy(self) -> bool:
        """Whether it stands for a bare cell name."""
        return (self.application, self.application_instance) == _LEGACY and self.cell_instance == _DEFAULT

    @property
    def routing_id(self) -> str:
        """The scope as one word; two scopes never share one. Lengths are UTF-8 bytes."""
        return ROUTING_PREFIX + _joined(self)

    @property
    def target(self) -> str:
        """What events name to reach the cell: its bare name for a legacy scope, the routing id otherwise."""
        return self.cell if self.is_legacy else self.routing_id


class ResourceKey(NamedTuple):
    """One resource of a scope.

    Attributes:
        scope: whose it is.
        category: what kind of thing, e.g. `storage`.
        id: which of its kind, within the scope.
    """

    scope: Scope
    category: str
    id: str

    def checked(self) -> ResourceKey:
        """Return the key itself if it is complete; raise ValueError otherwise."""
        self.scope.checked()
        _check("resource category", self.category)
        _check("resource id", self.id)
        return self

    def __str__(self) -> str:
        return _joined((*self.scope, self.category, self.id))


def legacy_scope(cell: str) -> Scope:
    """Return the scope that stands for a bare cell name; a blank one is called `default`."""
    return Scope(*_LEGACY, cell if cell.strip() else _DEFAULT, _DEFAULT)


class ScopedFactory(Generic[T]):
    """One value per key, made at most once. Safe from any thread; a creator that raises is asked again."""

    def __init__(self, create: Callable[[ResourceKey], T]) -> None:
        self._create: Final = create
        self._made: Final[dict[ResourceKey, T]] = {}
        self._lock: Final = threading.Lock()

    def get(self, key: ResourceKey) -> T:
        """Return the value for `key`, making it if need be."""
        with self._lock:
            if key not in self._made:
                self._made[key] = self._create(key.checked())
            return self._made[key]

    def __len__(self) -> int:
        return len(self._made)


def _check(what: str, value: str) -> None:
    if not value.strip():
        raise ValueError(f"ext: {what} is required")
    if "\0" in value:
        raise ValueError(f"ext: {what} contains NUL")


def _joined(parts: tuple[str, ...]) -> str:
    return "|".join(f"{len(part.encode())}:{part}" for part in parts)

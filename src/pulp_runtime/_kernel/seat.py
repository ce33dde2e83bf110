"""Where a cell runs: what others call it, what events name, whose it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from pulp_runtime.ext import Scope, legacy_scope
from pulp_runtime.manifest.app import AppSpec
from pulp_runtime.manifest.cell import CellSpec, load_cell
from pulp_runtime.manifest.placement import PRIMARY

ONLY_INSTANCE: Final = "default"
"""The instance of an application that runs once."""
_HOST: Final = "host"


class Seat(NamedTuple):
    """One running copy of a cell, whatever its version.

    Attributes:
        spec: its manifest when the host starts.
        address: what other cells and operators call it: `name`, or `name@instance` for one of several.
        id: what events name: the bare name, or the routing id of the scope for one of several.
        scope: whose it is.
    """

    spec: CellSpec
    address: str
    id: str
    scope: Scope

    @classmethod
    def alone(cls, spec: CellSpec) -> Seat:
        """Return the seat of a cell outside an application."""
        return cls(spec, spec.name, spec.name, legacy_scope(spec.name))


class Layout(NamedTuple):
    """Who runs in a host, and where.

    Attributes:
        seats: in the order in which they start.
        scope: whom capabilities are set up for.
        app: the application, None for cells that are none.
    """

    seats: tuple[Seat, ...]
    scope: Scope
    app: AppSpec | None = None

    @classmethod
    def of_cells(cls, cells: Iterable[CellSpec]) -> Layout:
        """Return the layout of cells that run outside an application."""
        return cls(tuple(Seat.alone(spec) for spec in cells), legacy_scope(_HOST))

    @classmethod
    def of_app(cls, app: AppSpec, instance: str = ONLY_INSTANCE) -> Layout:
        """Return the layout of an application's placements."""
        seats = []
        for one in app.placements:
            scope = Scope(app.name, instance, one.spec.name, one.instance).checked()
            single = one.address == one.spec.name
            seats.append(Seat(one.spec, one.address, one.spec.name if single else scope.routing_id, scope))
        return cls(tuple(seats), Scope(app.name, instance, _HOST, PRIMARY).checked(), app)

    @property
    def folders(self) -> dict[str, str]:
        """The folders of cells that share their name with another, by event target: their addresses."""
        return {seat.id: seat.address for seat in self.seats if seat.address != seat.spec.name}

    def read(self, seat: Seat) -> CellSpec:
        """Read the manifest of a cell again; raise `ManifestError` if that cannot be done."""
        return load_cell(seat.spec.manifest_path) if self.app is None else self.app.reread(seat.address)

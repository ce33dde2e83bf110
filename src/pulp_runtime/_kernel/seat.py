"""Where a cell runs: what others call it, what events name, whose it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from pulp_runtime.ext import Scope, legacy_scope
from pulp_runtime.manifest.app import AppSpec
from pulp_runtime.manifest.cell import CellSpec, load_cell
from pulp_runtime.manifest.placement import PRIMARY

if TYPE_CHECKING:
    from pulp_runtime.manifest.host import HostedApplication

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
        label: what operators and logs call it: its address, after the application's name where there are several.
    """

    spec: CellSpec
    address: str
    id: str
    scope: Scope
    label: str

    @classmethod
    def alone(cls, spec: CellSpec) -> Seat:
        """Return the seat of a cell outside an application."""
        return cls(spec, spec.name, spec.name, legacy_scope(spec.name), spec.name)


class Layout(NamedTuple):
    """Who runs in a host, and where.

    Attributes:
        seats: in the order in which they start.
        scope: whom capabilities are set up for.
        app: the application, None for cells that are none.
        hosted: which application instance of a host of several it is; None outside one.
    """

    seats: tuple[Seat, ...]
    scope: Scope
    app: AppSpec | None = None
    hosted: HostedApplication | None = None

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
            seats.append(Seat(one.spec, one.address, one.spec.name if single else scope.routing_id, scope, one.address))
        return cls(tuple(seats), Scope(app.name, instance, _HOST, PRIMARY).checked(), app)

    @classmethod
    def of_hosted(cls, hosted: HostedApplication) -> Layout:
        """Return the layout of one application instance of a host: events name its cells by routing id only."""
        seats = []
        for one in hosted.app.placements:
            scope = Scope(hosted.id, hosted.instance, one.spec.name, one.instance).checked()
            label = f"{hosted.label}/{one.address}"
            seats.append(Seat(one.spec, one.address, scope.routing_id, scope, label))
        return cls(tuple(seats), Scope(hosted.id, hosted.instance, _HOST, PRIMARY).checked(), hosted.app, hosted)

    @property
    def folders(self) -> dict[str, str]:
        """The folders of cells that share their name with another, by event target: their addresses."""
        return {seat.id: seat.address for seat in self.seats if seat.address != seat.spec.name}

    @property
    def log_fields(self) -> dict[str, str]:
        """What every record of the application carries; nothing where it is the only one."""
        return {} if self.hosted is None else {"app": self.hosted.log_name}

    def read(self, seat: Seat) -> CellSpec:
        """Read the manifest of a cell again; raise `ManifestError` if that cannot be done."""
        if self.app is not None:
            return self.app.reread(seat.address)
        path = seat.spec.manifest_path
        return seat.spec if path == seat.spec.wasm_path else load_cell(path)  # a module alone has none

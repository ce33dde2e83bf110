"""The extension API: give cells a new host capability in a few lines of Python.

    from pulp_runtime.ext import Capability, CellRef, Errno, HostError, host_function

    class Greeter:
        @host_function
        def demo_greet(self, cell: CellRef, name: str) -> None:
            if not name:
                raise HostError(Errno.EMPTY, "name")
            print(f"{cell.name} says hello to {name}")

    def capability() -> Capability:
        return Capability.of("demo.greet", Greeter())

A package offers it through an entry point in the group `pulp.capabilities`; a program of its own calls `register`.
"""

from pulp_runtime.errors import Errno as Errno
from pulp_runtime.errors import ExtensionError as ExtensionError
from pulp_runtime.errors import HostError as HostError
from pulp_runtime.ext.capability import Capability as Capability
from pulp_runtime.ext.capability import Linker as Linker
from pulp_runtime.ext.cell import CellRef as CellRef
from pulp_runtime.ext.cell import Guest as Guest
from pulp_runtime.ext.endpoint import Endpoint as Endpoint
from pulp_runtime.ext.event import Posted as Posted
from pulp_runtime.ext.event import StepEvent as StepEvent
from pulp_runtime.ext.function import U32 as U32
from pulp_runtime.ext.function import U64 as U64
from pulp_runtime.ext.function import HostFunction as HostFunction
from pulp_runtime.ext.function import host_function as host_function
from pulp_runtime.ext.nodes import Bytes as Bytes
from pulp_runtime.ext.nodes import Folder as Folder
from pulp_runtime.ext.nodes import Leaf as Leaf
from pulp_runtime.ext.nodes import Text as Text
from pulp_runtime.ext.percell import PerCell as PerCell
from pulp_runtime.ext.program import Grants as Grants
from pulp_runtime.ext.program import Program as Program
from pulp_runtime.ext.registered import all as all  # noqa: A004  # the published name
from pulp_runtime.ext.registered import register as register
from pulp_runtime.ext.run import Outcome as Outcome
from pulp_runtime.ext.run import Run as Run
from pulp_runtime.ext.scope import ResourceKey as ResourceKey
from pulp_runtime.ext.scope import Scope as Scope
from pulp_runtime.ext.scope import ScopedFactory as ScopedFactory
from pulp_runtime.ext.scope import legacy_scope as legacy_scope
from pulp_runtime.ext.services import Services as Services
from pulp_runtime.ext.setup import SetupEnv as SetupEnv
from pulp_runtime.ext.tree import Entry as Entry
from pulp_runtime.ext.tree import File as File
from pulp_runtime.ext.tree import How as How
from pulp_runtime.ext.tree import Kind as Kind
from pulp_runtime.ext.tree import Node as Node
from pulp_runtime.ext.tree import Stat as Stat

Cell = CellRef
"""The published name of `CellRef`."""

"""A capability: named host functions, life-cycle hooks and a source of events, as one value."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pulp_runtime.errors import Errno, ExtensionError
from pulp_runtime.ext.cell import CellRef
from pulp_runtime.ext.event import StepEvent
from pulp_runtime.ext.function import HostFunction, host_functions
from pulp_runtime.ext.run import Run
from pulp_runtime.ext.setup import SetupEnv

NAME = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*")
MAX_WORDS = 12
"""Most i32 parameters a host function can have; `pulp_app_call_v1` has twelve."""


class Linker(Protocol):
    """Binds host functions for one cell that is being loaded."""

    @property
    def wanted(self) -> Mapping[str, int]:
        """How many i32 parameters the cell's module gives each function that it imports from `pulp`, by name.

        What the module was built against shows here: where versions of one function differ in their parameters,
        this tells which codes and shapes its other functions are expected to have (design §5). A name that is
        missing is not imported; one that is imported twice has the larger number. Empty for a cell without a module.
        """

    def define(self, name: str, words: int, function: Callable[..., int], *, blocking: bool = False) -> None:
        """Bind import `name` of module `pulp` to `function(guest, word, …) -> code`.

        Args:
            name: the import's name.
            words: how many i32 parameters it has, 0..12. Each reaches `function` as an unsigned int.
            function: answers an int of which the low 32 bits are the import's result. A `HostError` it raises
                is answered as its code, anything else as 99 with a log line; nothing reaches the guest.
            blocking: whether it may wait; while it does, another cell gets the worker.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """Everything the host needs to know of one capability. Only `name` and `register` are required.

    Attributes:
        name: dotted, lower case: what a manifest lists under `capabilities`.
        register: `register(linker, cell)`: bind the host functions for a cell that declared the capability.
            Runs at every load of a cell: first start, restart, reload. An error fails that load only.
        stub: `stub(linker, cell)`: bind the same names for a cell that did not declare it. Not needed with
            `functions`: the host then answers 99 by itself.
        setup: `setup(env)`: acquire what the host needs, once, before any cell is loaded.
        teardown: `teardown()`: release everything, once, after the last cell is closed.
        poll: `poll() -> StepEvent | None`: the next pending event. Must not block. For sources that can only be
            asked; prefer `env.post`.
        finalize: `finalize(id)`: the event with this id has been dealt with, answered or not. On any worker
            thread, exactly once for each accepted event.
        teardown_cell: `teardown_cell(cell_id)`: drop what one cell owns; it may be loaded again afterwards.
        swap_begin: `swap_begin(cell_id)`: another version of the cell is about to be loaded while what this one owns
            stays, connections above all. A capability without it gets `teardown_cell` instead.
        swap_end: `swap_end(cell_id, adopted)`: that version runs now, and what only the old one had asked for goes;
            or it was not adopted, and what it had asked for goes.
        snapshot: `snapshot(cell_id) -> bytes`: what the capability knows of a cell that its guest set up once and will
            not set up again when it goes on from a snapshot, such as its routes; b"" for nothing. Between two calls
            of the cell, on a worker. An error refuses the snapshot.
        restore: `restore(cell_id, data)`: take that up again for an instance that goes on from a snapshot, behind
            `register` and in place of what `pulp_init` would have asked for. An error refuses the snapshot.
        teardown_scope: `teardown_scope(scope)`: drop what one application instance owns.
        mount: `mount(run)`: add files to the tree of a program that is about to run. For every run of every program
            that declares the capability, so it only names things; work is done when they are opened.
        provider: stable identity of the implementation, normally its module; tells two of one name apart.
        functions: the host functions by import name, an older version of one by `name/words`; fills `register` and
            `stub` (see `Capability.of`).
    """

    name: str
    register: Callable[[Linker, CellRef], None]
    stub: Callable[[Linker, CellRef], None] | None = None
    setup: Callable[[SetupEnv], None] | None = None
    teardown: Callable[[], None] | None = None
    poll: Callable[[], StepEvent | None] | None = None
    finalize: Callable[[int], None] | None = None
    teardown_cell: Callable[[str], None] | None = None
    swap_begin: Callable[[str], None] | None = None
    swap_end: Callable[[str, bool], None] | None = None
    snapshot: Callable[[str], bytes] | None = None
    restore: Callable[[str, bytes], None] | None = None
    teardown_scope: Callable[[Any], None] | None = None
    mount: Callable[[Run], None] | None = None
    provider: str = ""
    functions: Mapping[str, HostFunction] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ExtensionError(
                f"capability name {self.name!r}: use lower-case words joined by dots, such as demo.greet"
            )

    @classmethod
    def of(cls, name: str, owner: object, *, provider: str = "") -> Capability:
        """Make a capability of an object: its `@host_function` methods and whichever hooks it has.

        Args:
            name: the capability's name.
            owner: methods marked with `@host_function` become imports under their own names; methods called
                `setup`, `teardown`, `poll`, `finalize`, `teardown_cell`, `swap_begin`, `swap_end`, `teardown_scope`,
                `mount`, `snapshot` and `restore` become the hooks.
                A method `setup_cell(cell)`, the counterpart of `teardown_cell`, runs first in `register`: the place
                to read the cell's settings, and to refuse its load.
            provider: identity of the implementation; the module that defines the object's class by default.

        Raises:
            ExtensionError: it has neither a host function nor a hook, or a host function's signature cannot be
                mapped.
        """
        functions = host_functions(owner)
        hooks = {hook: getattr(owner, hook) for hook in HOOKS if callable(getattr(owner, hook, None))}
        if not functions and not hooks:
            raise ExtensionError(f"{name}: {type(owner).__name__} has no @host_function and no hook")

        setup_cell = getattr(owner, "setup_cell", None)

        def register(linker: Linker, cell: CellRef) -> None:
            if setup_cell is not None:
                setup_cell(cell)
            for function in functions.values():
                linker.define(function.name, function.words, function.invoke, blocking=function.blocking)

        return cls(
            name=name,
            register=register,
            provider=provider or type(owner).__module__,
            functions=functions,
            **hooks,
        )

    def bind_stub(self, linker: Linker, cell: CellRef) -> None:
        """Bind every name this capability owns to the answer 99."""
        if self.stub is not None:
            self.stub(linker, cell)
            return
        for function in self.functions.values():
            linker.define(function.name, function.words, undeclared)


HOOKS = (
    *("setup", "teardown", "poll", "finalize", "teardown_cell", "teardown_scope"),
    *("swap_begin", "swap_end", "mount", "snapshot", "restore"),
)


def undeclared(_guest: object, *_words: int) -> int:
    """Answer 99: the cell's manifest does not declare the capability."""
    return Errno.UNDECLARED

"""Which capabilities a host knows, and what one cell gets of them."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final

from pulp_runtime.errors import ExtensionError, HookFailed, LoadError
from pulp_runtime.ext import Capability, CellRef
from pulp_runtime.ext import all as registered
from pulp_runtime.ext.capability import MAX_WORDS

Discover = Callable[[], Mapping[str, Callable[[], Capability]]]


class Binding:
    """One host function as a cell will import it.

    Attributes:
        capability: who it belongs to.
        name: the import's name.
        words: how many i32 parameters.
        function: `function(guest, word, …) -> code`.
        blocking: whether it may wait.
        stub: whether it only says that the capability was not declared.
    """

    __slots__ = ("blocking", "capability", "function", "name", "stub", "words")

    def __init__(
        self,
        capability: str,
        name: str,
        words: int,
        function: Callable[..., int],
        *,
        blocking: bool,
        stub: bool,
    ) -> None:
        self.capability: Final = capability
        self.name: Final = name
        self.words: Final = words
        self.function: Final = function
        self.blocking: Final = blocking
        self.stub: Final = stub


class Bindings:
    """The host functions of one cell, by name and by how many words they take. A `Linker` for extensions.

    Attributes:
        wanted: see `ext.Linker.wanted`.
    """

    def __init__(
        self, more: Callable[[Bindings], None] | None = None, wanted: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        self.wanted: Final = wanted
        self._more = more
        self._found: Final[dict[str, dict[int, Binding]]] = {}
        self._capability = ""
        self._stub = False

    def collect(self, capability: Capability, cell: CellRef, *, declared: bool) -> None:
        """Let `capability` define its functions, or its stubs, for `cell`."""
        self._capability = capability.name
        self._stub = not declared
        (capability.register if declared else capability.bind_stub)(self, cell)

    def define(self, name: str, words: int, function: Callable[..., int], *, blocking: bool = False) -> None:
        """See `ext.Linker.define`. A name may be defined once for each number of words, by one capability.

        A stub gives way to whoever really has the name: two that a cell declares cannot share one, others can.
        """
        if not 0 <= words <= MAX_WORDS:
            raise ExtensionError(f"{self._capability}: {name} has {words} words; 0..{MAX_WORDS} are possible")
        arities = self._found.setdefault(name, {})
        for known in list(arities.values()):
            if known.capability != self._capability and self._stub:
                return
            if known.capability != self._capability and known.stub:
                del arities[known.words]
            elif known.capability != self._capability or known.words == words:
                raise ExtensionError(f"{name} is defined by {known.capability} and again by {self._capability}")
        arities[words] = Binding(self._capability, name, words, function, blocking=blocking, stub=self._stub)

    def get(self, name: str) -> Mapping[int, Binding]:
        """Return the functions called `name`, by number of words; ask the installed extensions if nobody has it."""
        if name not in self._found and self._more is not None:
            more, self._more = self._more, None
            more(self)
        return self._found.get(name, {})

    def nearest(self, name: str) -> str:
        """Return the known name most like `name`, or ""."""
        return next(iter(difflib.get_close_matches(name, self._found, n=1)), "")


class Registry:
    """The capabilities of a host: bound for every cell, or only for those that declare them.

    A new registry holds what `ext.register` has been given; add more with `always` and `gated`. Capabilities of
    installed packages are looked for when a cell declares a name, or imports a function, that nothing here has:
    starting a host imports no extension that no cell asks for.

    Args:
        prefill: start with what `ext.register` has been given.
        built_in: capabilities that are at hand, as loaders by name; asked before `discover` is.
        discover: returns the capabilities that installed packages offer, as loaders by name.
    """

    def __init__(
        self,
        *,
        prefill: bool = True,
        built_in: Mapping[str, Callable[[], Capability]] = MappingProxyType({}),
        discover: Discover = dict,
    ) -> None:
        self._always: Final[dict[str, Capability]] = {}
        self._gated: Final[dict[str, Capability]] = {}
        self._built_in: Final = built_in
        self._discover: Final = discover
        self._offers: Mapping[str, Callable[[], Capability]] | None = None
        self._lock: Final = threading.RLock()
        if prefill:
            for capability in registered():
                self.gated(capability)

    def always(self, capability: Capability, *, again: bool = False) -> None:
        """Bind `capability` for every cell, declared or not; `again` takes the place of one of that name."""
        with self._lock:
            if again:
                self._always.pop(capability.name, None)
            self._add(self._always, capability)

    def gated(self, capability: Capability) -> None:
        """Bind `capability` only for cells that declare it; the others get its stubs."""
        self._add(self._gated, capability)

    def _add(self, group: dict[str, Capability], capability: Capability) -> None:
        with self._lock:
            known = self._always.get(capability.name) or self._gated.get(capability.name)
            if known is not None:
                raise ExtensionError(
                    f"capability {capability.name} is offered by {known.provider or 'an unnamed provider'} and by "
                    f"{capability.provider or 'an unnamed provider'}; keep one of them"
                )
            group[capability.name] = capability

    @property
    def capabilities(self) -> tuple[Capability, ...]:
        """Every capability known so far, those that are always bound first."""
        with self._lock:
            return (*self._always.values(), *self._gated.values())

    def find(self, name: str) -> Capability | None:
        """Return a capability by name, from an installed package if need be; None if nobody offers it.

        Raises:
            ExtensionError: the package that offers it cannot be imported, or offers something else.
        """
        with self._lock:
            known = self._gated.get(name) or self._always.get(name)
            if known is None and (name in self._built_in or name in self._offered()):
                known = self._load_offer(name)
            return known

    def _offered(self) -> Mapping[str, Callable[[], Capability]]:
        if self._offers is None:
            self._offers = {**self._discover(), **self._built_in}
        return self._offers

    def _load_offer(self, name: str) -> Capability:
        capability = (self._built_in.get(name) or self._offered()[name])()
        if capability.name != name:
            raise ExtensionError(f"the entry point {name} offers a capability called {capability.name}")
        self.gated(capability)
        return capability

    def granted(self, declared: Iterable[str]) -> frozenset[str]:
        """Return the capabilities a cell with these declarations may use: the second wall asks at every call."""
        return frozenset(self._always) | frozenset(declared)

    def bind(
        self, cell: CellRef, declared: Iterable[str], wanted: Mapping[str, int] = MappingProxyType({})
    ) -> Bindings:
        """Return what one cell gets: what is always bound, what it declared, and stubs for all else.

        Args:
            cell: who it is for.
            declared: the capabilities in its manifest.
            wanted: what its module imports, see `ext.Linker.wanted`.

        Raises:
            LoadError: it declares a capability nobody offers; the nearest name is in the message.
            HookFailed: an extension's `register` or `stub` raised.
        """
        names = set(declared)
        for name in sorted(names):
            if self.find(name) is None:
                raise LoadError(cell.name, self.explain_unknown(cell.name, name))
        bindings = Bindings(lambda bindings: self._bind_rest(bindings, cell), wanted)
        for capability in self.capabilities:
            declares = capability.name in self._always or capability.name in names
            self._bind(bindings, capability, cell, declared=declares)
        return bindings

    def _bind(self, bindings: Bindings, capability: Capability, cell: CellRef, *, declared: bool) -> None:
        try:
            bindings.collect(capability, cell, declared=declared)
        except Exception as error:
            hook = "register" if declared else "stub"
            raise HookFailed(capability.name, hook, error, cell=cell.name) from error

    def _bind_rest(self, bindings: Bindings, cell: CellRef) -> None:
        """Add the stubs of installed extensions that nothing has asked for until now."""
        known = {capability.name for capability in self.capabilities}
        for name in sorted(set(self._offered()) - known):
            try:
                capability = self.find(name)
                if capability is not None:
                    self._bind(bindings, capability, cell, declared=False)
            except ExtensionError as error:
                cell.log.warning("extension ignored", capability=name, reason=str(error))

    def explain_unknown(self, cell: str, name: str) -> str:
        """Say that nobody offers a capability that a cell declares, and name the nearest."""
        known = {capability.name for capability in self.capabilities} | set(self._offered())
        near = difflib.get_close_matches(name, sorted(known), n=1)
        hint = f"did you mean {near[0]}?" if near else "install the package that provides it, or remove it"
        return f'cell "{cell}" declares unknown capability "{name}"; {hint}'

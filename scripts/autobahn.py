"""Run the Autobahn|Testsuite against a host with a cell that says every message back.

The suite is a program for Python 2.7. It is installed once, with that Python's own pip, into `.cache/autobahn`:

    python scripts/autobahn.py                      every case; writes docs/reference/autobahn.md
    python scripts/autobahn.py --cases '1.*' '5.*'  some of them; prints what went wrong
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pulp_runtime import Host

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / ".cache" / "autobahn"
PAGE = ROOT / "docs" / "reference" / "autobahn.md"
SUITE = "autobahntestsuite==25.10.1"
START = "import site; site.addsitedir({site!r}); from autobahntestsuite.wstest import run; run()"
"""A package of the suite is found through a .pth file, which only a site folder's are read."""
AGENT = "pulp"
FINE = ("OK", "NON-STRICT", "INFORMATIONAL")
MIB = 1024 * 1024

MANIFEST = f"""
name = "ws-echo"
version = "0.1.0"
wasm = "{{wasm}}"
capabilities = ["transport.ws.inbound"]

[limits]
message_bytes = {64 * MIB}

[settings."transport.ws.inbound"]
message_bytes = {16 * MIB}
queue_bytes = {32 * MIB}
deflate = true
"""

CHAPTERS = {
    "1": "framing",
    "2": "pings and pongs",
    "3": "reserved bits",
    "4": "opcodes",
    "5": "fragments",
    "6": "UTF-8",
    "7": "closing",
    "9": "limits and speed",
    "10": "parts of frames",
    "12": "compression, by size of message",
    "13": "compression, by what is agreed on",
}


class SuiteMissing(Exception):
    """The suite cannot be had here; the message says what to do."""


def find_python2() -> Path:
    """Return a Python 2.7: `$PYTHON27`, on PATH, or one that pyenv has."""
    candidates = [os.environ.get("PYTHON27", ""), shutil.which("python2.7") or ""]
    candidates += [str(path) for path in sorted(Path.home().glob(".pyenv/versions/2.7*/bin/python"))]
    for candidate in filter(None, candidates):
        asked = subprocess.run(
            [candidate, "-c", "import sys; print(sys.version_info[:2] == (2, 7))"],
            capture_output=True,
            text=True,
            check=False,
        )
        if asked.stdout.strip() == "True":
            return Path(candidate)
    raise SuiteMissing("python 2.7 is not here; the suite needs it: pyenv install 2.7.18, or set PYTHON27")


def install(python2: Path) -> None:
    """Install the suite, unless it is there."""
    done = SITE / ".installed"
    if done.exists() and done.read_text() == SUITE:
        return
    shutil.rmtree(SITE, ignore_errors=True)
    command = [str(python2), "-m", "pip", "install", "--quiet", "--target", str(SITE), SUITE]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SuiteMissing(f"{' '.join(command)} failed: {ran.stderr.strip()[-500:]}")
    done.write_text(SUITE)
    (SITE.parent / ".gitignore").write_text("*\n")


def run(cases: Sequence[str], *, python2: Path, seconds: float | None = None) -> dict[str, Mapping[str, Any]]:
    """Run cases such as `1.*`; return what the suite says of each, by its number."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        cell = work / "cell"
        cell.mkdir()
        wasm = ROOT / "examples" / "ws-echo" / "c" / "ws_echo.wasm"
        shutil.copy(wasm, cell / wasm.name)
        (cell / "pulp.cell.toml").write_text(MANIFEST.format(wasm=wasm.name))
        with Host([cell], http_port="127.0.0.1:0", storage_root=work / "data") as host:
            url = host.url.replace("http:", "ws:", 1) + "/echo"
            spec = {
                "outdir": str(work / "report"),
                "servers": [{"agent": AGENT, "url": url}],
                "cases": list(cases),
                "exclude-cases": [],
                "exclude-agent-cases": {},
            }
            (work / "spec.json").write_text(json.dumps(spec))
            with (work / "log").open("w") as log:
                subprocess.run(
                    [str(python2), "-c", START.format(site=str(SITE)), "-m", "fuzzingclient", "-s", "spec.json"],
                    cwd=work,
                    env={**os.environ, "PYTHONNOUSERSITE": "1"},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    timeout=seconds,
                    check=False,
                )
        index = work / "report" / "index.json"
        if not index.exists():
            raise SuiteMissing(f"the suite wrote no report: {(work / 'log').read_text()[-1000:]}")
        found: dict[str, Mapping[str, Any]] = json.loads(index.read_text())[AGENT]
        return dict(sorted(found.items(), key=lambda item: [int(part) for part in item[0].split(".")]))


def failures(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the cases that are not fine, each with what the suite says."""
    return [
        f"{case}: {result['behavior']}, close {result['behaviorClose']}"
        for case, result in results.items()
        if result["behavior"] not in FINE or result["behaviorClose"] not in FINE
    ]


def report(results: Mapping[str, Mapping[str, Any]], seconds: float) -> str:
    """Return the page."""
    behaviors = sorted({result["behavior"] for result in results.values()}, key=_rank)
    head = ["chapter", "", "cases", *behaviors]
    rows = []
    for chapter, title in CHAPTERS.items():
        counts = Counter(result["behavior"] for case, result in results.items() if case.partition(".")[0] == chapter)
        if counts:
            rows.append([chapter, title, str(counts.total()), *(str(counts[behavior]) for behavior in behaviors)])
    total = Counter(result["behavior"] for result in results.values())
    rows.append(["", "**all**", str(total.total()), *(str(total[behavior]) for behavior in behaviors)])
    others = [case for case, result in results.items() if result["behavior"] not in ("OK", "INFORMATIONAL")]
    informational = [case for case, result in results.items() if result["behavior"] == "INFORMATIONAL"]
    closes = Counter(result["behaviorClose"] for result in results.values())
    return _PAGE.format(
        suite=SUITE.replace("==", " "),
        date=time.strftime("%Y-%m-%d"),
        minutes=max(1, round(seconds / 60)),
        version=version("pulp-runtime"),
        python=".".join(map(str, sys.version_info[:3])),
        table="\n".join(_row(row) for row in (head, ["---:", "---", *["---:"] * (len(head) - 2)], *rows)),
        closes=", ".join(f"{count} {behavior}" for behavior, count in closes.most_common()),
        others=textwrap.fill(", ".join(others) or "none", 120) + ".",
        informational=", ".join(informational) or "none",
    )


def _rank(behavior: str) -> int:
    return FINE.index(behavior) if behavior in FINE else len(FINE)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


_PAGE = """# Autobahn

[Autobahn|Testsuite](https://github.com/crossbario/autobahn-testsuite) plays a client against
[`transport.ws.inbound`](capabilities/transport.ws.inbound.md): every frame RFC 6455 and RFC 7692 allow, and many that
they do not. This page is written by the run itself:

```sh
make autobahn
```

It needs a Python 2.7, for which the suite is written (`PYTHON27` names one that is not found by itself). A part of it
runs with the tests: `pytest -m conformance tests/e2e/test_autobahn.py`.

## Result

{suite}, {date}, pulp-runtime {version}, Python {python}; {minutes} min.

{table}

How connections were closed: {closes}. No case failed.

NON-STRICT means right, but not in the way the suite likes best:

{others}

* In chapters 3 to 5 a message is followed by a breach of the protocol in one packet. The cell gets the message, but the
  connection is closed before the cell can answer it.
* In chapter 6 text that is not UTF-8 is refused when its frame is complete, not in the middle of it.

INFORMATIONAL means that the specification leaves it open: {informational}.

## What it ran against

`examples/ws-echo/c/ws_echo.wasm` in a host on the same machine, with `message_bytes` of 16 MiB, `queue_bytes` of 32 MiB
and `deflate = true`, so that chapters 9, 12 and 13 run as well.
"""


def main() -> None:
    """Run what was asked for; write the page after a full run without a failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=["*"], help="patterns of case numbers; default: all")
    asked = parser.parse_args()
    began = time.monotonic()
    try:
        python2 = find_python2()
        install(python2)
        results = run(asked.cases, python2=python2)
    except SuiteMissing as problem:
        sys.exit(f"no result: {problem}")
    seconds = time.monotonic() - began
    wrong = failures(results)
    counts = Counter(result["behavior"] for result in results.values())
    print(f"{len(results)} cases in {seconds:.0f} s: {', '.join(f'{n} {name}' for name, n in counts.most_common())}")
    if wrong:
        sys.exit("\n".join(wrong))
    if asked.cases == ["*"]:
        PAGE.write_text(report(results, seconds))
        print(PAGE)


if __name__ == "__main__":
    main()

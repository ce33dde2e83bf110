"""Run the targets: `python -m tests.fuzz --cases 1000000`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.fuzz import harness
from tests.fuzz.catalogue import targets
from tests.fuzz.harness import say


def main(arguments: list[str] | None = None) -> int:
    """Run; return 0, or 1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="cases, all targets together (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the inputs (default: %(default)s)")
    parser.add_argument("--only", action="append", metavar="NAME", help="a target; may be repeated")
    parser.add_argument("--seconds", type=float, help="most time for each target")
    parser.add_argument("--out", type=Path, default=Path("fuzz-finding.bin"), help="file for the input of a finding")
    parser.add_argument("--input", type=Path, help="judge this input once, with --only NAME")
    parser.add_argument("--list", action="store_true", help="name the targets")
    given = parser.parse_args(arguments)
    known = {target.name: target for target in targets()}
    unknown = set(given.only or ()) - set(known)
    if unknown:
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    chosen = [known[name] for name in given.only or known]
    if given.list:
        for target in chosen:
            say(f"{target.name:<28} {target.about}")
        return 0
    if given.input is not None:
        return _replay(chosen, given.input)
    return _run(chosen, given)


def _replay(chosen: list[harness.Target], path: Path) -> int:
    findings = [harness.replay(target, path.read_bytes()) for target in chosen]
    for finding in findings:
        say(finding or "nothing found")
    return int(any(findings))


def _run(chosen: list[harness.Target], given: argparse.Namespace) -> int:
    began = time.perf_counter()
    cases = 0
    leaks = []
    with harness.Watchdog(given.out) as watchdog:
        for target, share in zip(chosen, harness.share_out(chosen, given.cases), strict=True):
            report = harness.run(target, share, given.seed, seconds=given.seconds, watchdog=watchdog)
            cases += report.cases
            if report.finding is not None:
                say(report.finding)
                harness.save(report.finding, given.out)
                say(f"  again: python -m tests.fuzz --only {target.name} --input {given.out}")
                return 1
            say(report)
            leaks.append(report.leaks)
    verdict = "; ".join(filter(None, leaks)) or "nothing found"
    say(f"{cases:,} cases, seed {given.seed}, {time.perf_counter() - began:.1f} s: {verdict}")
    return int(any(leaks))


if __name__ == "__main__":
    sys.exit(main())

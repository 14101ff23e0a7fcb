"""Tell which of the mutants the property tests notice.

Usage: python tests/mutation/run.py [-j N] [part of a name ...]

Each mutant is made in a copy of ``src``, on which the property tests run, the fast ones first,
until one fails. The same seeds every time: who is killed once is killed always. Exit code 1 if
fewer than 95 % are killed.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
TESTS = [
    f"tests/property/test_{name}.py"
    for name in ("reconnects", "histories", "interleavings", "hostile_input", "broker_machine")
]
ENOUGH = 0.95
HANG_S = 900.0


def run_tests(mutant: Mutant | None) -> tuple[str, str, float]:
    """Return ``killed``, ``survived`` or what else went wrong; by which test; and seconds."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant") as directory:
        copy = Path(directory)
        for name in ("src", "tests", "pyproject.toml", "README.md"):
            source = ROOT / name
            ignored = shutil.ignore_patterns("__pycache__", "node_modules")
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=ignored)
            else:
                shutil.copy(source, copy)
        if mutant is not None:
            path = copy / "src" / "mock_mcp" / mutant.file
            path.write_text(path.read_text().replace(mutant.old, mutant.new))
        options = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
        try:
            done = subprocess.run(
                [sys.executable, "-m", "pytest", *options, *TESTS],
                cwd=copy,
                env={**os.environ, "PYTHONPATH": str(copy / "src")},
                capture_output=True,
                text=True,
                timeout=HANG_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "killed", "a test that hangs", time.monotonic() - began
    outcome = {0: "survived", 1: "killed"}.get(done.returncode, "broken")
    said = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    by = said[0].split("::", 1)[-1].split(" - ")[0] if said else ""
    return outcome, by, time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-j", type=int, default=2, help="how many at once")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    chosen = [m for m in MUTANTS if not options.names or any(n in m.name for n in options.names)]
    outcome, by, took_s = run_tests(None)
    print(f"{'unchanged':60} {outcome} {by} ({took_s:.0f} s)", flush=True)
    if outcome != "survived":
        return 2
    killed = 0
    with concurrent.futures.ThreadPoolExecutor(options.j) as pool:
        for mutant, (outcome, by, took_s) in zip(chosen, pool.map(run_tests, chosen), strict=True):
            killed += outcome == "killed"
            print(f"{mutant.name:60} {outcome} {by} ({took_s:.0f} s)", flush=True)
    print(f"{killed} of {len(chosen)} killed")
    return 0 if killed >= ENOUGH * len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())

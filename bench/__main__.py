"""Measure mock-mcp: each figure beside a reference of the same run.

    python -m bench [PART …] [--quick] [--json FILE]

Machines are noisy: what counts is the ratio to the reference, medians are shown with their
quartiles, and works that are compared take turns. Rivals that are not installed (the extra
``bench`` has them) are left out, saying so. ``--quick`` is a smoke size: it shows that the suite
still runs, and its figures mean nothing.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
import time
from pathlib import Path

from bench.report import Size, heading, text_of

PARTS = (
    "start",
    "daemon",
    "round_trip",
    "node",
    "queue",
    "adapter",
    "gate",
    "replay",
    "suite",
    "contract",
    "claim_text",
)


def main() -> None:
    """Measure, and print the table as it grows."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (all)")
    parser.add_argument("--quick", action="store_true", help="a smoke size")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; known are {', '.join(PARTS)}")
    size = Size(smoke=options.quick)
    found: dict[str, list[dict[str, object]]] = {}
    print(heading())
    for name in options.parts or PARTS:
        began = time.monotonic()
        print(f"{name}:", flush=True)
        found[name] = []
        for row in importlib.import_module(f"bench.{name}").rows(size):
            print("  " + text_of(row), flush=True)
            found[name].append(row.to_json())
        print(f"  ({time.monotonic() - began:.0f} s)")
    if options.json is not None:
        machine = {"python": platform.python_version(), "system": sys.platform}
        options.json.write_text(json.dumps({"machine": machine, "parts": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()

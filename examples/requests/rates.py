"""Convert money on the command line: ``python rates.py 10 EUR USD``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import requests

API = "https://rates.example.com/v2"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="rates")
    parser.add_argument("amount", type=float)
    parser.add_argument("source")
    parser.add_argument("target")
    asked = parser.parse_args(arguments)
    try:
        response = requests.get(
            f"{API}/rates/{asked.source}", params={"to": asked.target}, timeout=5
        )
        response.raise_for_status()
    except requests.RequestException as error:
        sys.stderr.write(f"rates: {error}\n")
        return 1
    found = response.json()
    converted = asked.amount * found["rate"]
    sys.stdout.write(
        f"{asked.amount:.2f} {asked.source} = {converted:.2f} {asked.target} ({found['date']})\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

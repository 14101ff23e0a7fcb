"""``mock-mcp check-contract``: read OpenAPI documents and say what mock-mcp makes of them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mock_mcp.cli.terminal import printable_lines

if TYPE_CHECKING:
    from mock_mcp.contract.survey import Survey

__all__ = ["configure", "run"]

_SHOWN = 10


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("files", metavar="FILE", nargs="+", help="an OpenAPI or Swagger document")
    parser.add_argument("--json", action="store_true", help="print one JSON array, a document each")
    parser.add_argument(
        "--all", action="store_true", help=f"list every finding, not the first {_SHOWN} of a kind"
    )


def run(args: argparse.Namespace) -> int:
    """Check the documents; return 1 when one, or a response schema in one, cannot be used."""
    from mock_mcp.contract.survey import survey
    from mock_mcp.errors import MockMcpError

    reports: list[dict[str, Any]] = []
    failed = False
    for name in args.files:
        try:
            found = survey(Path(name))
        except MockMcpError as error:
            failed = True
            reports.append({"path": name, "error": {"code": error.code, "message": error.message}})
            if not args.json:
                print(printable_lines(f"cannot be used: {error.message}"), file=sys.stderr)
            continue
        failed = failed or bool(found.unreadable or found.uncompilable)
        reports.append(asdict(found))
        if not args.json:
            text = "\n".join(_text(found, None if args.all else _SHOWN))
            print(printable_lines(text))
    if args.json:
        print(json.dumps(reports, indent=2))
    return 1 if failed else 0


def _text(found: Survey, shown: int | None) -> Iterator[str]:
    kind = "Swagger" if found.version == "2.0" else "OpenAPI"
    answers = found.sampled + len(found.unsampled)
    yield f"{found.path}: {kind} {found.version}, sha256 {found.sha256[:12]}"
    yield f"  servers           {', '.join(found.servers)}"
    yield f"  operations        {found.operations}, {found.bodiless} without a described answer"
    yield f"  response schemas  {_of(found.schemas, found.uncompilable)} compile"
    yield f"  their examples    {_of(found.examples, found.invalid_examples)} valid"
    yield f"  sampled answers   {_of(answers, found.unsampled)} operations"
    yield f"  read leniently    {len(found.defects)} places"
    yield from _list("cannot be used", [*found.unreadable, *found.uncompilable], shown)
    yield from _list("invalid examples (not used)", found.invalid_examples, shown)
    yield from _list("cannot be sampled", found.unsampled, shown)
    defects = [f"{d.pointer or '/'} {d.message}: {d.action}" for d in found.defects]
    yield from _list("read leniently", defects, shown)


def _of(total: int, failures: Sequence[str]) -> str:
    return f"{total - len(failures)} of {total}"


def _list(title: str, lines: Sequence[str], shown: int | None) -> Iterator[str]:
    if not lines:
        return
    yield f"  {title}:"
    for line in lines[:shown]:
        yield f"    {line}"
    if shown is not None and len(lines) > shown:
        yield f"    and {len(lines) - shown} more (--all)"

"""``mock-mcp import``: what other tools recorded, as a recording of a test."""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mock_mcp.cli import add_project_root
from mock_mcp.cli.terminal import printable_lines
from mock_mcp.contract.project import ProjectContracts
from mock_mcp.convert.accept import ContractCheck, accept
from mock_mcp.convert.read import read_conversions
from mock_mcp.convert.values import Loss
from mock_mcp.convert.wiremock_import import BASE_URL
from mock_mcp.errors import ConfigurationError
from mock_mcp.exchange import Decision, HostRules, Origin
from mock_mcp.recordings.check import shown
from mock_mcp.recordings.format import RecordedInteraction
from mock_mcp.recordings.marks import TestSource
from mock_mcp.recordings.match import DEFAULT_MATCH, Matching
from mock_mcp.recordings.paths import DIRECTORY, Place, locate, names_of
from mock_mcp.recordings.redact import Redaction
from mock_mcp.recordings.store import RecordingFile
from mock_mcp.runtime.cache import contract_cache
from mock_mcp.runtime.project import Project
from mock_mcp.words import counted

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        type=Path,
        help="a HAR, a VCR cassette (YAML or JSON), or WireMock stubs",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--test",
        metavar="NODEID",
        help="the test that shall replay the calls: tests/test_a.py::test_b",
    )
    where.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help="the recording to write (with neither, nothing is written)",
    )
    parser.add_argument(
        "--replace", action="store_true", help="replace the recording if it is there already"
    )
    parser.add_argument(
        "--host",
        metavar="HOST",
        action="append",
        help="take only calls to this host (also *.example.com); may be repeated",
    )
    parser.add_argument(
        "--base-url",
        metavar="URL",
        help=f"where calls of WireMock stubs go that name no host (default: {BASE_URL})",
    )
    add_project_root(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


@dataclass(slots=True)
class _Imported:
    """What came of an import.

    Attributes:
        unnamed: Headers of answers that are left out.
        elsewhere: How many calls ``--host`` left out.
        nowhere: How many calls go to `BASE_URL` because nothing names their host.
    """

    calls: list[RecordedInteraction] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    unnamed: set[str] = field(default_factory=set)
    elsewhere: int = 0
    nowhere: int = 0
    written: Place | None = None

    @property
    def unchecked(self) -> int:
        return sum(interaction.contract is None for interaction in self.calls)


def run(options: argparse.Namespace) -> int:
    """Import the files; 1 when no call could be imported."""
    place = _place(options)
    if place is not None and place.path.exists() and not options.replace:
        raise ConfigurationError(f"{shown(place.path)} is there already; --replace writes it anew.")
    project = Project.resolve(options.project_root, place and _above(place.path))
    check = ContractCheck(ProjectContracts(project.root, cache_dir=contract_cache()))
    matching = Matching(_match(options.test) or _setting(project.root, "match") or DEFAULT_MATCH)
    redaction = Redaction(
        names=_setting(project.root, "redact"),
        request_headers=matching.request_headers,
        response_headers=_setting(project.root, "response_headers"),
    )
    hosts = None if options.host is None else HostRules(options.host, loopback=False)
    done = _Imported()
    accepted = done.calls
    for conversion in read_conversions(options.files, options.base_url or BASE_URL):
        if hosts is not None:
            wanted = [call for call in conversion.calls if _goes_to(hosts, call[1])]
            done.elsewhere += len(conversion.calls) - len(wanted)
            conversion.calls = wanted
        taken = accept(conversion, redaction, check)
        accepted += taken
        if conversion.format == "wiremock" and options.base_url is None:
            done.nowhere += sum(call.request.url.startswith(f"{BASE_URL}/") for call in taken)
        done.losses += conversion.losses
        done.unnamed |= conversion.unnamed
    if place is not None and accepted:
        recording = RecordingFile(*place, matching=matching, redaction=redaction)
        for interaction in accepted:
            response = interaction.response
            kept = () if response is None else tuple(response.headers)
            recording.stage(interaction, response_headers=kept)
        recording.promote("none")
        done.written = place
    print(_json(done) if options.json else printable_lines("\n".join(_text(done))))
    return 0 if accepted else 1


def _place(options: argparse.Namespace) -> Place | None:
    """Return the recording to write, and the test it belongs to."""
    if options.test is not None:
        file, names = names_of(options.test)
        if not names:
            raise ConfigurationError(
                f"{options.test!r} names no test; write tests/test_a.py::test_b."
            )
        path = Path(file).absolute()
        if not path.is_file():
            raise ConfigurationError(f"{file} is not there, and so has no test {names[-1]}.")
        if TestSource(path.read_bytes()).lacks(names):
            raise ConfigurationError(
                f"{file} has no test {'::'.join(names)}, so nobody would replay the recording. "
                "Write the test first, or name a file with --out."
            )
        return locate(path, names)
    if options.out is None:
        return None
    out: Path = options.out.absolute()
    if out.suffix != ".json":
        raise ConfigurationError(f"{options.out} must end in .json, as recordings do.")
    if out.parent.parent.name == DIRECTORY:  # __mocks__/<module>/<test>.json
        return Place(str(out), f"{out.parent.name}.py::{out.stem}")
    return Place(str(out), out.stem)


def _above(path: Path) -> Path:
    """Return the nearest directory that is there."""
    return next(parent for parent in path.parents if parent.is_dir())


def _match(test: str | None) -> Sequence[str]:
    """Return what the marker of a test compares, as far as it is written out."""
    if test is None:
        return ()
    file, names = names_of(test)
    return _names(TestSource(Path(file).read_bytes()).marker(names).get("match"))


def _setting(root: Path, key: str) -> Sequence[str]:
    """Return the names that a key of the project lists; what is wrong with them, pytest says."""
    try:
        tool: Any = tomllib.loads((root / "pyproject.toml").read_text("utf-8")).get("tool", {})
        return _names(tool["mock-mcp"][key])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ()


def _names(value: Any) -> Sequence[str]:
    """Return the names in a setting; one may be written without a list."""
    names = value if isinstance(value, list | tuple) else [value]
    return [name for name in names if isinstance(name, str)]


def _goes_to(hosts: HostRules, interaction: RecordedInteraction) -> bool:
    return hosts.decide(Origin.of(interaction.request.url)) is Decision.MOCK


# -- How it is told ---------------------------------------------------------------------------


def _text(done: _Imported) -> Iterator[str]:
    for title, whole in (("Not imported", True), ("Not carried over", False)):
        lines = [f"  {x.file}: {x.place}: {x.reason}" for x in done.losses if x.call is whole]
        if lines:
            yield f"{title}:"
            yield from lines
            yield ""
    if done.unnamed:
        yield (
            f"Headers of answers left out: {', '.join(sorted(done.unnamed))}. Name those that a "
            "test reads in response_headers of [tool.mock-mcp]."
        )
    if done.elsewhere:
        calls = "call to another host was" if done.elsewhere == 1 else "calls to other hosts were"
        yield f"{done.elsewhere} {calls} left out."
    if done.nowhere:
        yield (
            f"{counted(done.nowhere, 'call')} to {BASE_URL}, where WireMock listens: its host is "
            "named nowhere. --base-url says which API it stands in for."
        )
    count = counted(len(done.calls), "call")
    said = f" ({done.unchecked} not checked by a contract)" if done.unchecked else ""
    if done.written is not None:
        yield f"{shown(done.written.path)}: {count} of {done.written.test}{said}"
    else:
        hint = "; name the test with --test to write them" if done.calls else ""
        yield f"{count} can be imported{said}{hint}"


def _json(done: _Imported) -> str:
    def told(loss: Loss) -> dict[str, Any]:
        return {name: value for name, value in asdict(loss).items() if name != "call"}

    fields = {
        "recording": None if done.written is None else str(done.written.path),
        "test": None if done.written is None else done.written.test,
        "calls": len(done.calls),
        "unchecked": done.unchecked,
        "otherHosts": done.elsewhere,
        "headersLeftOut": sorted(done.unnamed),
        "notImported": [told(loss) for loss in done.losses if loss.call],
        "notCarriedOver": [told(loss) for loss in done.losses if not loss.call],
    }
    return json.dumps(fields, indent=2, ensure_ascii=False)

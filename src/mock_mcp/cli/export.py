"""``mock-mcp export``: recordings as a HAR or as WireMock stubs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from mock_mcp.cli import add_project_root
from mock_mcp.cli.terminal import printable
from mock_mcp.convert.har import to_har
from mock_mcp.convert.wiremock_export import to_wiremock
from mock_mcp.errors import ConfigurationError
from mock_mcp.recordings.format import Recording
from mock_mcp.recordings.store import read_recording
from mock_mcp.recordings.survey import survey
from mock_mcp.runtime.project import Project
from mock_mcp.words import counted

__all__ = ["configure", "run"]

_FORMATS = {"har": to_har, "wiremock": to_wiremock}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="*",
        type=Path,
        help="a recording, or a directory with recordings below it (default: the whole project)",
    )
    parser.add_argument("--format", choices=_FORMATS, required=True, help="what to write")
    parser.add_argument(
        "--out", metavar="FILE", required=True, help="the file to write; - is standard output"
    )
    add_project_root(parser)


def run(options: argparse.Namespace) -> int:
    """Export the recordings; 1 when there is no call to export."""
    paths = options.paths or [Project.resolve(options.project_root).root]
    recordings = list(_recordings(paths))
    tree, conversion = _FORMATS[options.format](recordings)
    calls = sum(len(recording.interactions) for _, recording in recordings)
    exported = calls - sum(loss.call for loss in conversion.losses)
    for loss in conversion.losses:
        what = "not exported" if loss.call else "not carried over"
        print(printable(f"{loss.file}: {loss.place}: {what}: {loss.reason}"), file=sys.stderr)
    if not exported:
        print("mock-mcp: there is no recorded call to export.", file=sys.stderr)
        return 1
    text = msgspec.json.format(msgspec.json.encode(tree), indent=2) + b"\n"
    if options.out == "-":
        sys.stdout.buffer.write(text)
        return 0
    try:
        Path(options.out).write_bytes(text)
    except OSError as exc:
        reason = f"{options.out} cannot be written ({exc.strerror or exc})."
        raise ConfigurationError(reason) from None
    of = counted(len(recordings), "recording")
    print(f"{options.out}: {exported} of {counted(calls, 'call')} of {of}")
    return 0


def _recordings(paths: Iterable[Path]) -> Iterator[tuple[str, Recording]]:
    """Yield every recording once, with its file.

    Raises:
        RecordingError: One cannot be read.
        ConfigurationError: A path is not there.
    """
    seen: set[Path] = set()
    for path in paths:
        found = [path.absolute()]
        if path.is_dir():
            below = survey(path)
            if below.unreadable:
                raise below.unreadable[0]
            found = sorted(below.recordings)
        elif not path.is_file():
            raise ConfigurationError(f"{path} is not there.")
        for file in found:
            if file not in seen:
                seen.add(file)
                yield str(path if path.is_file() else file), read_recording(file)

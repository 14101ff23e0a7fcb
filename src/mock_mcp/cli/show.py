"""``mock-mcp show``: a recording, for people."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from mock_mcp.cli.terminal import printable_lines
from mock_mcp.recordings.errors import RecordingError
from mock_mcp.recordings.format import RecordedInteraction, Recording, is_sidecar
from mock_mcp.recordings.paths import DIRECTORY
from mock_mcp.recordings.store import read_recording
from mock_mcp.words import counted

__all__ = ["configure", "run"]

_EXCERPT = 100
_SOURCES = {
    "ai": "written by the assistant",
    "example": "made from the contract",
    "live": "answered by the real API",
    "hand": "written by hand",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("file", metavar="FILE", type=Path, help="a recording")
    parser.add_argument("--full", action="store_true", help="show whole bodies, not excerpts")
    parser.add_argument("--json", action="store_true", help="print JSON, bodies in place")


def run(options: argparse.Namespace) -> int:
    """Show the recording."""
    recording = _read(options.file)
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(recording)).decode())
    else:
        limit = None if options.full else _EXCERPT
        print(printable_lines("\n".join(_text(recording, limit))))
    return 0


def _read(file: Path) -> Recording:
    """Return the recording; say so when the file is none, where there is nothing to repair."""
    if is_sidecar(file.name):
        recording = file.with_name(f"{file.name.rsplit('.', 2)[0]}.json")
        raise RecordingError(file, f"It is a body of the recording {recording.name}; show that.")
    try:
        return read_recording(file)
    except RecordingError:
        if DIRECTORY in file.absolute().parts or not file.is_file():
            raise
        raise RecordingError(
            file,
            "It is no recording. Recordings lie beside the tests, as "
            f"{DIRECTORY}/test_shop/test_order.json.",
        ) from None


def _text(recording: Recording, limit: int | None) -> Iterator[str]:
    count = len(recording.interactions)
    yield f"{recording.test}: {counted(count, 'call')}"
    for number, interaction in enumerate(recording.interactions, 1):
        yield ""
        yield from _call(number, interaction, limit)


def _call(number: int, interaction: RecordedInteraction, limit: int | None) -> Iterator[str]:
    request, response, error = interaction.request, interaction.response, interaction.error
    end = f"failed: {error.kind}" if error is not None else ""
    if response is not None:
        end = str(response.status)
        if response.delay_ms:
            end += f" after {response.delay_ms:g} ms"
    yield f"{number}. {request.method} {request.url} -> {end}"
    checked = "not checked" if interaction.contract is None else "checked"
    if interaction.operation is not None:
        checked = f"{interaction.operation}, {checked}"
    yield f"   {_SOURCES[interaction.source]}; {checked}"
    if request.body is not msgspec.UNSET:
        yield f"   asked    {_shown(request.body, limit)}"
    if error is not None and error.message:
        yield f"   failed   {error.message}"
    if response is not None and response.body is not msgspec.UNSET:
        yield f"   answered {_shown(response.body, limit)}"


def _shown(body: Any, limit: int | None) -> str:
    if limit is None:
        return json.dumps(body, ensure_ascii=False, indent=2).replace("\n", "\n   ")
    text = json.dumps(body, ensure_ascii=False)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"

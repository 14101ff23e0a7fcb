"""The OpenAPI documents of a project, found by looking."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mock_mcp.contract.document import load_schema_file
from mock_mcp.contract.errors import ContractDocumentError
from mock_mcp.contract.parse import MAX_DOCUMENT_BYTES
from mock_mcp.errors import MissingExtra

__all__ = ["Found", "find_documents"]

MAX_FILES = 50_000
"""Files that are looked at, by their names, before the search ends."""

MAX_READ_BYTES = 256 * 1024 * 1024
"""JSON and YAML that is read before the search ends: a project may hold data too."""

_SKIPPED = frozenset(
    (
        *("node_modules", "__pycache__", "site-packages", "venv", "env", "vendor"),
        *("build", "dist", "target", "__mocks__"),
    )
)
_SUFFIXES = frozenset((".json", ".yaml", ".yml"))
_MARK = re.compile(rb"""(?:^|[{,\s])["']?(?:openapi|swagger)["']?[ \t]*:[ \t]*["']?[23]\.""")


class Found(NamedTuple):
    """The documents that can be used, by path from the root, and why others cannot."""

    documents: tuple[str, ...]
    problems: tuple[str, ...]


def find_documents(root: Path, cache_dir: Path | None = None) -> Found:
    """Look for OpenAPI and Swagger documents below a project's root, nearest first.

    Hidden directories, environments and what tools install or build are not entered. Of several
    files that describe the same version of the same API, the first is taken.

    Args:
        root: The project root.
        cache_dir: A private directory for parsed YAML documents.
    """
    documents: list[str] = []
    problems: list[str] = []
    seen: set[str] = set()
    for path in sorted(_candidates(root), key=_nearest):
        name = path.relative_to(root).as_posix()
        try:
            document = load_schema_file(path, cache_dir=cache_dir)
        except (ContractDocumentError, MissingExtra) as error:
            problems.append(error.message)
            continue
        if document.version == "schema":  # it only speaks of OpenAPI
            continue
        paths = sorted(template for template, *_ in document.paths)
        info = document.raw.get("info")
        info = info if isinstance(info, dict) else {}
        api = repr((info.get("title"), info.get("version"), paths))
        if paths and api not in seen:
            seen.add(api)
            documents.append(name)
    return Found(tuple(documents), tuple(problems))


def _nearest(path: Path) -> tuple[int, str, bool, str]:
    """Order files: those nearer to the root first, and JSON, which needs no extra, before YAML."""
    return len(path.parts), path.stem, path.suffix != ".json", path.name


def _candidates(root: Path) -> Iterator[Path]:
    """Yield files that say they are such a document; links and huge files are passed over."""
    looked = read = 0
    for text, names, files in os.walk(root):
        directory = Path(text)
        if "pyvenv.cfg" in files:  # an environment, whatever its name
            names.clear()
            continue
        names[:] = sorted(n for n in names if not n.startswith(".") and n not in _SKIPPED)
        for name in sorted(files):
            looked += 1
            path = directory / name
            if path.suffix.lower() in _SUFFIXES:
                content = _content(path)
                read += len(content)
                if _MARK.search(content):
                    yield path
            if looked >= MAX_FILES or read >= MAX_READ_BYTES:
                return


def _content(path: Path) -> bytes:
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_DOCUMENT_BYTES:
            return b""
        return path.read_bytes()
    except OSError:
        return b""

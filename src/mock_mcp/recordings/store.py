"""The recording of one test: looked up while the test runs, replaced only when it has passed.

What is recorded is *staged* in memory, already cleaned and encoded, so a body that cannot be
written fails the call that brought it. `promote` then writes whole files only: sidecars first, the
recording last, each beside its target and renamed over it. Whatever fails (a full disk, a read-only
directory, a killed process), the old recording is still there and complete. Of two processes that
write the same recording the last one wins; the lock on the directory only keeps one from removing
the sidecars the other has just written, and where there is no such lock (Windows, some network
file systems) old sidecars stay until they are pruned.

A file whose content would stay the same is not touched.
"""

from __future__ import annotations

import contextlib
import os
import reprlib
import secrets
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from mock_mcp.errors import ConfigurationError
from mock_mcp.real_files import on_real_files
from mock_mcp.recordings.errors import RecordingError
from mock_mcp.recordings.format import (
    SIDECAR_BYTES,
    RecordedInteraction,
    RecordedRequest,
    Recording,
    decode_recording,
    encode_interaction,
    encode_recording,
    is_sidecar,
    is_whole,
    pack,
    reference,
    sidecars_of,
    unpack,
)
from mock_mcp.recordings.match import Key, Matching
from mock_mcp.recordings.redact import Redaction

__all__ = ["BeforeRecord", "Keep", "Promoted", "Recorded", "RecordingFile", "read_recording"]

BeforeRecord = Callable[[RecordedInteraction], RecordedInteraction | None]
"""Changes an interaction before it is staged, after redaction; None: it is not recorded."""

Keep = Literal["all", "used", "none"]
"""Which interactions of the old file stay: all, those that were found, or none."""

Promoted = Literal["written", "unchanged", "removed"]


def read_recording(path: Path) -> Recording:
    """Read a recording with its bodies in place.

    Raises:
        RecordingError: It cannot be read, or is not a recording of this version.
    """
    recording = decode_recording(_read(path), path)
    interactions = tuple(_unpack(path, item) for item in recording.interactions)
    return msgspec.structs.replace(recording, interactions=interactions)


class Recorded(NamedTuple):
    """One interaction of the old file: its bodies may be references to sidecars.

    ``key`` is None when a hook said that it matches nothing.
    """

    interaction: RecordedInteraction
    key: Key | None
    used: bool


class RecordingFile:
    """The recording of one test or scope, for one run of it. Methods may be called by any thread.

    Nothing is read before it is needed, and nothing is written before `promote`.

    Args:
        path: The file (`paths.locate`).
        test: The id of the test that the file states.
        matching: When a request matches a recorded one.
        redaction: What may be written and compared; the headers that ``matching`` compares are
            recorded too.
        before_record: Hooks, in order.
        sidecar_bytes: Largest body kept in the recording itself, in bytes of JSON; None moves only
            binary ones out.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        test: str,
        *,
        matching: Matching | None = None,
        redaction: Redaction | None = None,
        before_record: Iterable[BeforeRecord] = (),
        sidecar_bytes: int | None = SIDECAR_BYTES,
    ) -> None:
        self._name = os.fspath(path)
        self.test = test
        self.matching = matching or Matching()
        self.redaction = (redaction or Redaction()).recording(self.matching.request_headers)
        self._before_record = tuple(before_record)
        self._sidecar_bytes = sidecar_bytes
        self._lock = threading.RLock()
        self._old: list[_Entry] | None = None
        self._by_key: dict[Key, list[_Entry]] = {}
        self._staged: list[_Staged] = []
        self._promoted = False

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self._name)

    @cached_property
    def _exact(self) -> Matching:
        return self.matching.exact()

    # -- Replay -------------------------------------------------------------------------------

    @on_real_files
    def exists(self) -> bool:
        """Return whether there is a recording."""
        return os.path.isfile(self._name)  # noqa: PTH113 - asked for every test

    @on_real_files
    def find(self, request: RecordedRequest) -> RecordedInteraction | None:
        """Return the next unused interaction that answers a request, and mark it used.

        Equal requests are answered in the order they were recorded; the order of different ones
        does not matter.

        Returns:
            The interaction with its bodies in place; None when none is recorded or all are used
            (`miss.explain_miss` tells which).

        Raises:
            RecordingError: The file, or the body of this interaction, cannot be read.
        """
        prepared = self.matching.prepare(self.redaction.request(request))
        if prepared is None:
            return None
        key = self.matching.key(prepared)
        with self._lock:
            self._load()
            candidates = self._by_key.get(key)
            if candidates is None:
                return None
            for index, entry in enumerate(candidates):
                if not self.matching.matchers or self.matching.accepts(entry.prepared, prepared):
                    found = entry.unpacked(self._name)
                    entry.used = True
                    del candidates[index]
                    return found
        return None

    @on_real_files
    def recorded(self) -> list[Recorded]:
        """Return the old file's interactions, in order.

        Raises:
            RecordingError: The file cannot be read.
        """
        with self._lock:
            return [Recorded(entry.packed, entry.key, entry.used) for entry in self._load()]

    def unused(self) -> list[RecordedInteraction]:
        """Return the old file's interactions that nothing asked for, in order."""
        return [recorded.interaction for recorded in self.recorded() if not recorded.used]

    # -- Recording ----------------------------------------------------------------------------

    @on_real_files
    def stage(
        self,
        interaction: RecordedInteraction,
        *,
        order: int | None = None,
        replaces: RecordedInteraction | None = None,
        response_headers: Sequence[str] = (),
    ) -> RecordedInteraction | None:
        """Take an interaction that will be written if the test passes.

        Args:
            interaction: As it happened; it is cleaned and passed through the hooks here.
            order: The number of the call in the test: calls that end in another order than they
                began are written in this one. When not given, the order of staging.
            replaces: What `find` returned, when it no longer fits: the new one takes its place.
            response_headers: More headers of a live answer to record.

        Returns:
            What will be written; None when a hook said that nothing shall be.

        Raises:
            ConfigurationError: A hook returned something else.
            RecordingError: A body is not JSON, or a field is outside its range.
        """
        cleaned = self.redaction.interaction(interaction, response_headers)
        for hook in self._before_record:
            changed: Any = hook(cleaned)
            if changed is None:
                return None
            if not isinstance(changed, RecordedInteraction):
                raise ConfigurationError(
                    f"before_record returned {reprlib.repr(changed)}. It returns the interaction "
                    "it was given, changed or not (msgspec.structs.replace), or None."
                )
            cleaned = changed
        try:
            staged = self._encoded(cleaned)
            key = self._exact.key(cleaned.request)
        except (TypeError, ValueError, RecursionError) as exc:
            call = f"{cleaned.request.method} {cleaned.request.url}"
            reason = f"The call {call} cannot be recorded, it is not JSON of this format: {exc}."
            raise RecordingError(self.path, reason) from exc
        with self._lock:
            assert not self._promoted, "a RecordingFile is promoted once"
            number = len(self._staged) if order is None else order
            replaced = None
            if replaces is not None:
                replaced = next((old for old in self._load() if old.is_(replaces)), None)
            self._staged.append(_Staged(number, key, staged, replaced))
        return cleaned

    @property
    def staged(self) -> int:
        """How many interactions are staged."""
        return len(self._staged)

    def discard(self) -> None:
        """Forget what is staged: the test failed, or its recording is not wanted."""
        with self._lock:
            self._staged.clear()

    @on_real_files
    def promote(self, keep: Keep = "all") -> Promoted:
        """Write what is staged, together with what is kept of the old recording; ends this run.

        What was read and used can still be asked afterwards.

        Args:
            keep: Which old interactions stay; those replaced by a staged one never do. With
                ``"none"`` the old file need not even be readable.

        Returns:
            ``"unchanged"`` when the file already says so, or there is nothing to say and no file;
            ``"removed"`` when nothing is left of a file.

        Raises:
            RecordingError: It cannot be written. The old recording is as it was, and what is staged
                stays staged.
        """
        with self._lock:
            assert not self._promoted, "a RecordingFile is promoted once"
            if keep == "none":
                content = self._instead_of_old()
            else:
                old = self._load()
                if not self._staged and (keep == "all" or all(entry.used for entry in old)):
                    return "unchanged"
                content = self._added_to(entry for entry in old if keep == "all" or entry.used)
            promoted = self._write(content)
            self._staged.clear()
            self._promoted = True
        return promoted

    # -- Reading ------------------------------------------------------------------------------

    def _load(self) -> list[_Entry]:
        if self._old is None:
            entries: list[_Entry] = []
            by_key: dict[Key, list[_Entry]] = {}
            text = self._read()
            if text is not None:
                recording = decode_recording(text, self._name)
                if recording.test != self.test:
                    self._check_owner(recording.test)
                entries = list(map(_Entry, recording.interactions))
            for entry in entries:
                entry.cleaned = self.redaction.request(entry.request(self._name))
                prepared = self.matching.prepare(entry.cleaned)
                if prepared is not None:
                    entry.prepared = prepared
                    entry.key = self.matching.key(prepared)
                    by_key.setdefault(entry.key, []).append(entry)
            self._old, self._by_key = entries, by_key
        return self._old

    def _read(self) -> bytes | None:
        """Return what the file holds; None when there is none."""
        try:
            with open(self._name, "rb", buffering=0) as file:  # noqa: PTH123 - for every test
                return file.read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as exc:
            raise _unreadable(self._name, exc) from exc

    def _check_owner(self, owner: str) -> None:
        """Refuse a file of another name, which a file system that ignores case may hand out."""
        if owner.casefold() == self.test.casefold():
            raise _ForeignRecording(
                self.path,
                f"It belongs to {owner}, which differs from {self.test} only in case, and so their "
                "recordings share a file where file systems ignore case. Rename one of the two.",
                path="$.test",
            )

    # -- Writing ------------------------------------------------------------------------------

    def _encoded(self, interaction: RecordedInteraction) -> _Content:
        stem = self.path.name.removesuffix(".json")
        packed, sidecars = pack(interaction, stem, self._sidecar_bytes)
        return _Content(packed, encode_interaction(packed), sidecars)

    def _in_order(self) -> list[_Staged]:
        return sorted(self._staged, key=lambda staged: staged.order)

    def _added_to(self, kept: Iterable[_Entry]) -> list[_Entry | _Content]:
        """Return old interactions, each replaced by the one staged for it, then the new ones."""
        instead = {staged.replaces: staged.content for staged in self._staged if staged.replaces}
        new = [staged.content for staged in self._in_order() if staged.replaces is None]
        return [*(instead.get(entry, entry) for entry in kept), *new]

    def _instead_of_old(self) -> list[_Entry | _Content]:
        """Return what is staged, saying it as the old file did where it is the same.

        Concurrent calls end in any order, and ignored fields have new values each time: neither is
        a change.
        """
        try:
            old = self._load()
        except _ForeignRecording:
            raise
        except RecordingError:
            old = []
        known: dict[Key, deque[int]] = {}
        for position, entry in enumerate(old):
            known.setdefault(self._exact.key(entry.cleaned), deque()).append(position)
        content: list[tuple[int, _Content]] = []
        for staged in self._in_order():
            if positions := known.get(staged.key):
                position = positions.popleft()
                content.append((position, staged.content.with_request(old[position].packed)))
            else:
                content.append((len(old), staged.content))
        if not any(known.values()) and len(content) == len(old):
            content.sort(key=lambda item: item[0])
        return [item for _, item in content]

    def _write(self, content: list[_Entry | _Content]) -> Promoted:
        directory = self.path.parent
        if not content and not self.exists():
            return "unchanged"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with _locked(directory) as locked:
                return self._replace([*self._present(content)], locked=locked)
        except OSError as exc:
            there = "the previous recording is unchanged" if self.exists() else "nothing was saved"
            raise RecordingError(
                self.path,
                f"The recording cannot be written ({exc.strerror or exc}); {there}. Make the "
                "directory writable, or free space on its disk, and run the test again.",
            ) from exc

    def _present(self, content: list[_Entry | _Content]) -> Iterator[_Content]:
        """Yield everything to write, without old interactions whose sidecars are gone.

        Another process has then replaced the file this one read, and dropped them from it.
        """
        for item in content:
            if isinstance(item, _Content):
                yield item
            elif all(self._sidecar(name).exists() for name in sidecars_of(item.packed)):
                yield _Content(item.packed, encode_interaction(item.packed), {})
            elif item.full is not None:
                yield self._encoded(item.full)

    def _replace(self, content: list[_Content], *, locked: bool) -> Promoted:
        before = self.path.read_bytes() if self.exists() else None
        created: list[Path] = []
        try:
            for item in content:
                for name, data in item.sidecars.items():
                    target = self._sidecar(name)
                    fresh = not target.exists()
                    if fresh or target.read_bytes() != data:
                        _write_whole(target, data)
                        if fresh:
                            created.append(target)
            text = encode_recording(self.test, [item.text for item in content])
            promoted: Promoted = "written"
            if not content:
                promoted = "removed"
                self.path.unlink(missing_ok=True)
            elif before is not None and before.replace(b"\r\n", b"\n") == text:
                promoted = "unchanged"  # git may have converted line ends at checkout
            else:
                _write_whole(self.path, text)
        except BaseException:
            for target in created:
                with contextlib.suppress(OSError):
                    target.unlink()
            raise
        if locked and before is not None:
            self._remove_stale(before, {name for i in content for name in sidecars_of(i.packed)})
        return promoted

    def _remove_stale(self, before: bytes, needed: set[str]) -> None:
        with contextlib.suppress(RecordingError, OSError):
            for interaction in decode_recording(before, self.path).interactions:
                for name in sidecars_of(interaction) - needed:
                    if is_sidecar(name, self.path.name.removesuffix(".json")):
                        self._sidecar(name).unlink(missing_ok=True)

    def _sidecar(self, name: str) -> Path:
        return self.path.with_name(name)


class _ForeignRecording(RecordingError):
    """The file belongs to another test: never to be overwritten."""


class _Entry:
    """One interaction of the old file and what this run knows about it."""

    __slots__ = ("cleaned", "full", "key", "packed", "prepared", "used")

    def __init__(self, packed: RecordedInteraction) -> None:
        self.packed = packed
        self.full: RecordedInteraction | None = None
        self.cleaned = packed.request
        self.prepared = packed.request
        self.key: Key | None = None
        self.used = False

    def request(self, file: str) -> RecordedRequest:
        """Return the request with its body in place."""
        packed = self.packed.request
        return packed if reference(packed.body) is None else self.unpacked(file).request

    def unpacked(self, file: str) -> RecordedInteraction:
        """Return the interaction with its bodies in place, always the same object."""
        if self.full is None:
            self.full = self.packed if is_whole(self.packed) else _unpack(file, self.packed)
        return self.full

    def is_(self, found: RecordedInteraction) -> bool:
        """Return whether ``found`` is this interaction as `RecordingFile.find` returned it."""
        return self.full is found


class _Content(NamedTuple):
    """An interaction as it will stand in the file, and its sidecars by name."""

    packed: RecordedInteraction
    text: bytes
    sidecars: dict[str, bytes]

    def with_request(self, old: RecordedInteraction) -> _Content:
        """Return it with the request of a packed interaction."""
        packed = msgspec.structs.replace(self.packed, request=old.request)
        needed = sidecars_of(packed)
        sidecars = {name: data for name, data in self.sidecars.items() if name in needed}
        return _Content(packed, encode_interaction(packed), sidecars)


class _Staged(NamedTuple):
    order: int
    key: Key
    content: _Content
    replaces: _Entry | None


def _unpack(file: str | Path, packed: RecordedInteraction) -> RecordedInteraction:
    return unpack(packed, file, lambda name: Path(file).with_name(name).read_bytes())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise _unreadable(path, exc) from exc


def _unreadable(path: object, exc: OSError) -> RecordingError:
    return RecordingError(path, f"It cannot be read ({exc.strerror or exc}).")


def _write_whole(target: Path, data: bytes) -> None:
    """Write a file so that it is seen complete or not at all."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[bool]:
    """Hold the lock on a directory; yield whether there is such a thing here."""
    if sys.platform == "win32":
        yield False
        return
    import fcntl

    fd = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)

"""The format of a recording file: values, bytes, and the bodies that live beside the file.

A recording is text that people review, so its bytes depend on nothing but the calls: fields in one
order, header names sorted, two spaces, UTF-8, no time, no run id. Bodies are JSON values (DESIGN
section 6). One that is large or binary moves into a *sidecar*, a file beside the recording that is
named after its content, and ``{"$file": name}`` stands in its place; a body that happens to look
like such a reference moves too, so that what is read is always what was written.

A `RecordedInteraction` is *packed* when its bodies may be references, as in the file, and
*unpacked* when they are the values themselves, as everywhere else. Everything here is pure.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Annotated, Any, cast

import msgspec

from mock_mcp.integers import convert
from mock_mcp.recordings.errors import RecordingError
from mock_mcp.types import Source

__all__ = [
    "FORMAT_VERSION",
    "SIDECAR_BYTES",
    "Headers",
    "RecordedFailure",
    "RecordedInteraction",
    "RecordedRequest",
    "RecordedResponse",
    "Recording",
    "Source",
    "decode_recording",
    "encode_interaction",
    "encode_recording",
    "is_sidecar",
    "is_whole",
    "pack",
    "recording_schema",
    "reference",
    "sidecars_of",
    "unpack",
]

FORMAT_VERSION = 1
"""What this release writes; a file with a higher number is refused, not guessed at."""

SIDECAR_BYTES = 64 * 1024
"""Largest body, in bytes of JSON, kept in the recording: more than a person reviews in place."""

Headers = dict[str, str | list[str]]
"""Lower-case names, each with its value or, when it was sent several times, its values."""

_REPAIR = (
    "Correct the file, restore it from version control, or record it again with "
    "--mock-mode=rewrite."
)
_SIDECAR = re.compile(r"(?P<stem>.+)\.(?P<hash>[0-9a-f]{16})\.(?P<kind>json|bin)")
_CONFLICT = re.compile(rb"^(?:<{7}|={7}|>{7}|\|{7})(?:[ \r\n]|$)", re.MULTILINE)
_OFFSET = re.compile(r"\(byte (\d+)\)")
_BOM = b"\xef\xbb\xbf"


class _Value(
    msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True
):
    """A frozen value with camelCase names in the file, where absent fields are omitted."""


class RecordedRequest(_Value, frozen=True):
    """A call as it is matched and recorded.

    ``url`` is absolute; ``body`` is a JSON value in one of the forms of DESIGN section 6, and UNSET
    when the call had none (a JSON ``null`` is a body).
    """

    method: str
    url: str
    headers: Headers = {}
    body: Any | msgspec.UnsetType = msgspec.UNSET


class RecordedResponse(_Value, frozen=True):
    """The answer of a call. ``delay_ms`` is how long the test waits before it sees the answer."""

    status: Annotated[int, msgspec.Meta(ge=100, le=599)]
    headers: Headers = {}
    body: Any | msgspec.UnsetType = msgspec.UNSET
    delay_ms: Annotated[float, msgspec.Meta(ge=0, le=600_000)] | None = None


class RecordedFailure(_Value, frozen=True):
    """The failure a call ended with instead of an answer: its kind (``refused``), and its words."""

    kind: Annotated[str, msgspec.Meta(pattern="^[a-z][a-z_-]*$")]
    message: str | None = None


class RecordedInteraction(_Value, frozen=True):
    """One call and its answer.

    Exactly one of ``response`` and ``error`` is there. ``source`` says where the answer came from:
    an assistant, the contract's examples, the real API, or the test's author. ``contract`` is the
    hash of the contract it was checked against and ``operation`` that contract's name for the
    call; neither is there when nothing was checked.
    """

    request: RecordedRequest
    source: Source
    response: RecordedResponse | None = None
    error: RecordedFailure | None = None
    contract: str | None = None
    operation: str | None = None


class Recording(_Value, frozen=True):
    """A recording file: the test it belongs to, and its calls in the order they were made."""

    version: int
    test: str
    interactions: tuple[RecordedInteraction, ...]


class _AnyVersion(msgspec.Struct):
    version: int


_decoder = msgspec.json.Decoder(Recording)
_interaction_decoder = msgspec.json.Decoder(RecordedInteraction)
_version_decoder = msgspec.json.Decoder(_AnyVersion)
_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


# -- Bytes of the file ------------------------------------------------------------------------


def encode_interaction(interaction: RecordedInteraction) -> bytes:
    """Encode a packed interaction as compact JSON, ready for `encode_recording`.

    Raises:
        ValueError, TypeError, RecursionError: It could not be read again: a body is not JSON (NaN,
            bytes, lone surrogates), or a field is outside its range.
    """
    response = interaction.response
    error = interaction.error
    fields = {
        "request": _present(
            method=interaction.request.method,
            url=interaction.request.url,
            headers=_sorted(interaction.request.headers),
            body=interaction.request.body,
        ),
        "response": response
        and _present(
            status=response.status,
            headers=_sorted(response.headers),
            body=response.body,
            delayMs=_whole(response.delay_ms),
        ),
        "error": error and _present(kind=error.kind, message=error.message),
        "source": interaction.source,
        "contract": interaction.contract,
        "operation": interaction.operation,
    }
    text = _dumps({name: value for name, value in fields.items() if value is not None}).encode()
    _interaction_decoder.decode(text)
    return text


def encode_recording(test: str, interactions: Sequence[bytes]) -> bytes:
    """Return the bytes of a recording file.

    Args:
        test: The id of the test it belongs to.
        interactions: Each as `encode_interaction` returned it, in order.
    """
    head = b'{"version":%d,"test":%b,"interactions":[' % (FORMAT_VERSION, _dumps(test).encode())
    return msgspec.json.format(head + b",".join(interactions) + b"]}", indent=2) + b"\n"


def decode_recording(text: bytes, file: object) -> Recording:
    """Read the bytes of a recording file; bodies stay packed.

    Args:
        text: The file's bytes.
        file: How errors name the file.

    Raises:
        RecordingError: Not JSON (it names the line), not a recording (it names the JSON path), or
            written by a newer version.
    """
    text = text.removeprefix(_BOM)
    try:
        recording = _decode(text)
    except msgspec.ValidationError as exc:
        _check_version(text, file)
        reason, _, path = str(exc).partition(" - at ")
        raise RecordingError(file, f"{reason}. {_REPAIR}", path=path.strip("`") or "$") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise _malformed(text, exc, file) from None
    except RecursionError:
        raise RecordingError(file, f"The JSON nests too deep. {_REPAIR}") from None
    if recording.version != FORMAT_VERSION:
        _check_version(text, file)
        raise RecordingError(file, f"There is no version {recording.version}. {_REPAIR}")
    for index, interaction in enumerate(recording.interactions):
        if (interaction.response is None) == (interaction.error is None):
            raise RecordingError(
                file,
                f"Exactly one of `response` and `error` must be there. {_REPAIR}",
                path=f"$.interactions[{index}]",
            )
    return recording


def _decode(text: bytes) -> Recording:
    try:
        return _decoder.decode(text)
    except msgspec.ValidationError:
        return convert(msgspec.json.decode(text), Recording)  # 200.0 is an integer


def recording_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a recording file."""
    text = resources.files(__package__).joinpath("recording.schema.json").read_bytes()
    return cast("dict[str, Any]", msgspec.json.decode(text))


def _present(**fields: Any) -> dict[str, Any]:
    return {
        name: value
        for name, value in fields.items()
        if value is not msgspec.UNSET and (name == "body" or (value is not None and value != {}))
    }


def _sorted(headers: Mapping[str, str | list[str]]) -> Headers:
    return {name: headers[name] for name in sorted(headers)}


def _whole(number: float | None) -> float | None:
    return int(number) if number is not None and number == int(number) else number


def _check_version(text: bytes, file: object) -> None:
    try:
        version = _version_decoder.decode(text).version
    except msgspec.DecodeError:
        return
    if version > FORMAT_VERSION:
        raise RecordingError(
            file,
            f"Written in version {version} of the format; this release reads up to "
            f"{FORMAT_VERSION}. Upgrade mock-mcp, or record it again with --mock-mode=rewrite.",
            path="$.version",
        )


def _malformed(text: bytes, exc: Exception, file: object) -> RecordingError:
    if conflict := _CONFLICT.search(text):
        return RecordingError(
            file,
            "Merge conflict markers. Keep one side, and obtain what it lacks with "
            "--mock-mode=new_episodes (or neither: delete the file and record it again with "
            "--mock-mode=once).",
            line=_line(text, conflict.start()),
        )
    offset = _OFFSET.search(str(exc))
    what = _OFFSET.sub("", str(exc)).strip().removeprefix("JSON is malformed: ")
    place = int(offset[1]) if offset else len(text)
    return RecordingError(file, f"Not JSON: {what}. {_REPAIR}", line=_line(text, place))


def _line(text: bytes, offset: int) -> int:
    return text.count(b"\n", 0, offset) + 1


# -- Bodies beside the file -------------------------------------------------------------------


def pack(
    interaction: RecordedInteraction, stem: str, sidecar_bytes: int | None = SIDECAR_BYTES
) -> tuple[RecordedInteraction, dict[str, bytes]]:
    """Move bodies that do not belong into the recording out of it.

    Args:
        interaction: With its bodies in place.
        stem: The recording's file name without ``.json``: sidecars are named after it.
        sidecar_bytes: Largest body, in bytes of JSON, that stays; None moves only what must.

    Returns:
        The packed interaction, and the content of its sidecars by file name.

    Raises:
        ValueError, TypeError, RecursionError: A body is not JSON.
    """
    sidecars: dict[str, bytes] = {}

    def moved(body: Any) -> Any:
        if body is msgspec.UNSET:
            return body
        content = _bytes_of(body)
        kind = "bin"
        if content is None:
            kind = "json"
            text = _dumps(body).encode()
            small = sidecar_bytes is None or len(text) <= sidecar_bytes
            if small and reference(body) is None:
                return body
            content = msgspec.json.format(text, indent=2) + b"\n"
        name = f"{stem}.{hashlib.sha256(content).hexdigest()[:16]}.{kind}"
        sidecars[name] = content
        return {"$file": name}

    return _map_bodies(interaction, moved), sidecars


def unpack(
    interaction: RecordedInteraction, file: object, read: Callable[[str], bytes]
) -> RecordedInteraction:
    """Put the bodies of sidecars back in their place.

    Args:
        interaction: Packed.
        file: How errors name the recording.
        read: Returns the content of a sidecar by its file name; raises OSError.

    Raises:
        RecordingError: A sidecar is missing, is not a file of this directory, or was changed.
    """

    def restored(body: Any) -> Any:
        name = reference(body)
        if name is None:
            return body
        shape = _SIDECAR.fullmatch(name)
        if shape is None or "/" in name or "\\" in name:
            reason = f"{name!r} is not the name of a sidecar in the same directory. {_REPAIR}"
            raise RecordingError(file, reason)
        try:
            content = read(name)
        except OSError as exc:
            reason = f"Its body {name} cannot be read ({exc.strerror or exc}). {_REPAIR}"
            raise RecordingError(file, reason) from None
        return _sidecar_value(content, shape, f"{file} ({name})")

    return _map_bodies(interaction, restored)


def sidecars_of(interaction: RecordedInteraction) -> frozenset[str]:
    """Return the names of the sidecars that a packed interaction refers to."""
    bodies = [interaction.request.body, interaction.response and interaction.response.body]
    return frozenset(name for name in map(reference, bodies) if name is not None)


def is_whole(interaction: RecordedInteraction) -> bool:
    """Return whether a packed interaction has its bodies in place."""
    response = interaction.response
    return reference(interaction.request.body) is None and (
        response is None or reference(response.body) is None
    )


def is_sidecar(name: str, stem: str | None = None) -> bool:
    """Return whether a file name is that of a sidecar, of the recording ``stem`` if given."""
    shape = _SIDECAR.fullmatch(name)
    return shape is not None and stem in (None, shape["stem"])


def _map_bodies(
    interaction: RecordedInteraction, change: Callable[[Any], Any]
) -> RecordedInteraction:
    request, response = interaction.request, interaction.response
    asked = change(request.body)
    told = change(response.body) if response is not None else msgspec.UNSET
    if asked is request.body and (response is None or told is response.body):
        return interaction
    replace = msgspec.structs.replace
    return replace(
        interaction,
        request=replace(request, body=asked),
        response=response and replace(response, body=told),
    )


def reference(body: Any) -> str | None:
    """Return the file name in ``{"$file": name}``, None for every other body."""
    if isinstance(body, dict) and len(body) == 1 and isinstance(name := body.get("$file"), str):
        return name
    return None


def _bytes_of(body: Any) -> bytes | None:
    """Return the bytes of ``{"$base64": …}`` when they alone give back the same text."""
    if not (isinstance(body, dict) and len(body) == 1):
        return None
    text = body.get("$base64")
    if not isinstance(text, str):
        return None
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return content if base64.b64encode(content).decode() == text else None


def _sidecar_value(content: bytes, shape: re.Match[str], file: str) -> Any:
    if shape["kind"] == "bin":
        if not hashlib.sha256(content).hexdigest().startswith(shape["hash"]):
            raise RecordingError(
                file,
                "The bytes are not those that were recorded: the file was edited, or converted at "
                f"checkout (mark *.bin as binary in .gitattributes). {_REPAIR}",
            )
        return {"$base64": base64.b64encode(content).decode()}
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise _malformed(content, exc, file) from None
    except RecursionError:
        raise RecordingError(file, f"The JSON nests too deep. {_REPAIR}") from None

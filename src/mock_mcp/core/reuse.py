"""Answers that a responder gave for the rest of a run, found again by the request.

Two requests are the same when everything is that can decide their answer: method, endpoint, body,
contract, metadata, and of the headers ``accept``, by which the contract picks the media type, those
that say what is asked for (`ASKING_HEADERS`), and those that the test compares (``contract.match``:
names in lower case, ``*`` for any characters). The request's id and the test's name differ from one
call to the next and are left out.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from mock_mcp.types import ASKING_HEADERS, Mock, MockRequest

__all__ = ["ReusableAnswers"]

_COMPARED = ("accept", *ASKING_HEADERS)
_encoder = msgspec.json.Encoder(order="sorted")


class ReusableAnswers:
    """The answers of one run, the oldest forgotten first.

    Args:
        count: Answers kept.
        size: Bytes of their JSON kept.
    """

    __slots__ = ("_answers", "_count", "_left", "_size")

    def __init__(self, count: int, size: int) -> None:
        self._count = count
        self._size = size
        self._left = size
        self._answers: OrderedDict[bytes, tuple[Mock, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def add(self, request: MockRequest, mock: Mock) -> None:
        """Keep an answer; one that is larger than all together may be is not kept."""
        key = _key(request)
        self._drop(key)
        size = len(_encoder.encode(mock))
        if size > self._size:
            return
        self._answers[key] = (mock, size)
        self._left -= size
        while self._left < 0 or len(self._answers) > self._count:
            self._drop(next(iter(self._answers)))

    def find(self, requests: Iterable[MockRequest], room: int) -> dict[str, Mock]:
        """Return the answers to the same requests by these requests' ids, as many as have room.

        Args:
            requests: What is asked.
            room: Bytes of JSON that all of them may take: one answer may be found very often.
        """
        found = {}
        for request in requests:
            mock, size = self._answers.get(_key(request), (None, 0))
            if mock is not None and size <= room:
                room -= size
                request_id = request.request_id
                found[request_id] = msgspec.structs.replace(mock, request_id=request_id)
        return found

    def _drop(self, key: bytes) -> None:
        found = self._answers.pop(key, None)
        if found is not None:
            self._left += found[1]


def _key(request: MockRequest) -> bytes:
    fields: dict[str, Any] = msgspec.json.decode(request.json)
    fields["requestId"] = None
    headers = fields.get("headers")
    if isinstance(headers, dict):
        compared = (*_COMPARED, *_matched(fields))
        named = {name.lower(): value for name, value in headers.items()}
        fields["headers"] = {
            name: value
            for name, value in named.items()
            if any(fnmatchcase(name, pattern) for pattern in compared)
        }
    metadata = fields.get("metadata")
    if isinstance(metadata, dict):
        fields["metadata"] = {name: part for name, part in metadata.items() if name != "test"}
    fields["method"], fields["endpoint"] = request.method, request.endpoint
    return hashlib.blake2b(_encoder.encode(fields), digest_size=16).digest()


def _matched(fields: dict[str, Any]) -> Sequence[str]:
    """Return the headers that the test compares; nothing where a client wrote something else."""
    contract = fields.get("contract")
    match = contract.get("match") if isinstance(contract, dict) else None
    return [name for name in match if isinstance(name, str)] if isinstance(match, list) else ()

"""Messages that are almost right: valid ones, changed in places, and bytes of any kind."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

__all__ = ["mutate_bytes", "mutate_message"]

_NASTY_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 1e308, -1e308, 2**53 + 1, 10**40,
    "", " ", "\0", "é水🎈", "x" * 300, "x" * 5000, "null", "__proto__", "../../etc/passwd", "%s%n",
    "batch:", "batch:fuzz:", "batch:fuzz:1", [], {}, [[]], [None], {"": None}, ["a"] * 50,
)  # fmt: skip
_NASTY_BYTES = (
    b"", b"\0", b"\xff", b"\xed\xa0\x80", b"\xf0\x9f", b"\xef\xbb\xbf", b"NaN", b"-Infinity",
    b"1e999", b'"\\ud800"', b'"\\u0000"', b"[" * 300, b"{" * 300, b'{"a":' * 300, b"9" * 5000,
    b"\r\n", b"\r\n\r\n", b": ", b",", b"}", b'"', b"//", b"\\",
)  # fmt: skip


def mutate_message(chance: random.Random, corpus: list[dict[str, Any]]) -> bytes:
    """Return the text of one message of the corpus with one or two things wrong."""
    message: Any = copy.deepcopy(chance.choice(corpus))
    for _ in range(chance.randint(1, 2)):
        message = _change(chance, message)
    text = json.dumps(message, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    if chance.random() < 0.3:
        text = mutate_bytes(chance, text)
    return text


def mutate_bytes(chance: random.Random, data: bytes) -> bytes:
    """Return the bytes with a few of them flipped, cut, repeated, moved or joined by strangers."""
    for _ in range(chance.randint(1, 3)):
        at, end = sorted((chance.randint(0, len(data)), chance.randint(0, len(data))))
        match chance.randrange(7):
            case 0:
                data = data[:at]
            case 1:
                data = data[:at] + data[end:]
            case 2:
                data = data[:end] + data[at:end][:2000] + data[end:]
            case 3:
                data = data[:at] + chance.choice(_NASTY_BYTES) + data[at:]
            case 4:
                data = data[:at] + chance.choice(_NASTY_BYTES) + data[end:]
            case 5:
                data = data[:at] + chance.randbytes(chance.randint(1, 12)) + data[at:]
            case _:
                flipped = bytes(each ^ (1 << chance.randrange(8)) for each in data[at : at + 3])
                data = data[:at] + flipped + data[at + 3 :]
    return data


def _change(chance: random.Random, message: Any) -> Any:
    places = list(_places(message))
    if not places or chance.random() < 0.03:
        return _nasty(chance)
    holder, key = chance.choice(places)
    match chance.randrange(8):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[chance.choice((key.upper(), key + "x", "", "type", "id"))] = holder.pop(key)
        case 2 if isinstance(holder, dict):
            holder[chance.choice(("extra", "é", "__proto__"))] = _nasty(chance)
        case 3:
            holder[key] = [holder[key]] * chance.randint(1, 3)
        case 4:
            holder[key] = {"value": holder[key]}
        case 5:
            other, there = chance.choice(places)
            holder[key] = copy.deepcopy(other[there])
        case _:
            holder[key] = _nasty(chance)
    return message


def _nasty(chance: random.Random) -> Any:
    return copy.deepcopy(chance.choice(_NASTY_VALUES))


def _places(value: Any) -> Any:
    """Yield every (container, key) of a JSON value."""
    if isinstance(value, dict | list):
        for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield value, key
            yield from _places(item)

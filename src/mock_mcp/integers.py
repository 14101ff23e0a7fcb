"""Decoded JSON as typed values, where ``200.0`` is the integer it is: JSON has one type of number.

Models and some clients write it so. `msgspec` takes a float for no integer, and rightly so for what
programs write to each other; hence the second look costs nothing unless the first one failed.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import inspect

__all__ = ["convert"]

T = TypeVar("T")


def convert(value: Any, type_: type[T]) -> T:
    """Convert decoded JSON to a type, as `msgspec.convert`, but with whole floats as integers.

    Raises:
        msgspec.ValidationError: The value does not fit; the message names the place.
    """
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError:
        changed = _with_integers(value, inspect.type_info(type_))
        if changed is value:
            raise
    return msgspec.convert(changed, type_)


def _with_integers(value: Any, info: inspect.Type) -> Any:
    """Return ``value`` with whole floats as integers where only those fit; itself if none are."""
    if isinstance(info, inspect.Metadata):  # a description, for a JSON Schema
        return _with_integers(value, info.type)
    if isinstance(info, inspect.UnionType):
        if any(isinstance(each, inspect.FloatType) for each in info.types):
            return value
        changed = (_with_integers(value, each) for each in info.types)
        return next((each for each in changed if each is not value), value)
    if isinstance(value, float):
        return int(value) if isinstance(info, inspect.IntType) and value.is_integer() else value
    if isinstance(value, dict) and isinstance(info, inspect.StructType):
        fields = {field.encode_name: field.type for field in info.fields}
        members = {k: _with_integers(v, fields[k]) for k, v in value.items() if k in fields}
        same = all(members[key] is value[key] for key in members)
        return value if same else value | members
    if isinstance(value, list) and isinstance(info, (inspect.ListType, inspect.VarTupleType)):
        items = [_with_integers(item, info.item_type) for item in value]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else items
    return value

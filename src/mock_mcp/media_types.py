"""What a content type says of a body."""

from __future__ import annotations

from functools import lru_cache

__all__ = ["base_type", "is_json"]


@lru_cache(maxsize=256)
def base_type(content_type: str | None) -> str:
    """Return a content type in lower case without its parameters."""
    return (content_type or "").partition(";")[0].strip().lower()


@lru_cache(maxsize=256)
def is_json(content_type: str | None) -> bool:
    """Return whether bodies of a content type are JSON values.

    JSON's own types, those built on it (RFC 6839: ``+json``), and those of the AWS protocols
    (``application/x-amz-json-1.1``). Some contracts write ``application/json+`` and a name.
    """
    kind = base_type(content_type)
    return (
        kind in ("application/json", "text/json")
        or kind.endswith("+json")
        or kind.startswith(("application/json+", "application/x-amz-json-"))
    )

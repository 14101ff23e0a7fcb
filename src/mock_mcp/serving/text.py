"""How values become the text an assistant reads, and how it is told to read it."""

from __future__ import annotations

from typing import Any

from mock_mcp.wire.json import encode

__all__ = ["HOW_TO_READ", "dump"]

HOW_TO_READ = """\
Requests come as the test gave them: method, endpoint, body, headers, metadata (`instructions`: \
what the test wants; `test`: its name and docstring). `used` lists ids and other values of the \
run's earlier calls: agree with them, so that what one call created is what another reads. \
`contract` names an entry of `contracts`: the `status` to answer with, all declared ones, \
mediaType, the body's condensed JSON Schema, a valid `example`; or it is `metadata.schema`, \
shown there. In a schema `{"$fold": pointer}` is a part that get_schema opens, `$more` counts \
what was left out; `complete` false: open folds before you write. `unchecked` says why no \
contract judges the answer. contractMode `warn` delivers violations, `off` checks nothing. \
`requestViolations`: the code under test broke the contract; tell the user, and answer all the \
same. `{"$contract": "c1"}` stands for that contract's schema, `{"$shared": "s1"}` for an entry \
of `shared`, `{"$cut": text, "chars": n}` for a value too long to show (with \
`bytes`, binary data). `attempts`, `history`: \
how earlier claims of the batch ended; avoid their mistakes."""
"""What `mock_mcp.serving.view` and `contracts` write into a batch, in words."""


def dump(value: Any) -> str:
    """Return the JSON of a value; a struct is dumped with its wire names."""
    return encode(value).decode()

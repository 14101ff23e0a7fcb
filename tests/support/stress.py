"""How much a test does: little in every run, the published counts with ``MOCK_MCP_STRESS=1``."""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")

STRESS = os.environ.get("MOCK_MCP_STRESS") == "1"


def pick(few: T, many: T) -> T:
    """Return what an ordinary run does, or what a stress run does."""
    return many if STRESS else few

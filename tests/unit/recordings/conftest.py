"""A test whose runs are recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from unit.recordings.calls import Test


@pytest.fixture
def test(tmp_path: Path) -> Test:
    """A test without a recording."""
    return Test(tmp_path)

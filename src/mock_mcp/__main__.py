"""``python -m mock_mcp``: the ``mock-mcp`` command."""

from __future__ import annotations

import sys

from mock_mcp.cli import main

if __name__ == "__main__":
    sys.exit(main())

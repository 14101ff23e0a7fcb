"""What the package costs whoever does not use it: the import, and pytest with the plugin idle.

Processor time is measured, not wall time: a few milliseconds more are lost in how much the wall
time of one process differs from that of the next.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.project import processor_ms
from bench.report import Row, Size, alternate

NEW_MODULES = """
import json, sys
before = set(sys.modules)
import mock_mcp
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(json.dumps(sorted(new - set(sys.stdlib_module_names))))
"""


def rows(size: Size) -> Iterator[Row]:
    """Pairs of processes, with and without."""
    pairs = size.of(30, 2)
    ours, theirs = alternate(
        pairs, lambda: processor_ms("-c", "import mock_mcp"), lambda: processor_ms("-c", "pass")
    )
    imported = subprocess.run(
        [sys.executable, "-c", NEW_MODULES], check=True, capture_output=True, text=True
    )
    note = f"imports, beyond the standard library: {', '.join(json.loads(imported.stdout))}"
    yield Row(
        "import mock_mcp", ours, "bare interpreter", theirs, "ms", 10, "difference", note=note
    )
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "pytest.ini").write_text("[pytest]\n")
        (place / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
        (place / "empty_plugin.py").write_text("")
        command = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
        alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # other plugins would only add noise

        def pytest_ms(*plugin: str) -> float:
            return processor_ms(*command, *plugin, cwd=place, **alone)

        ours, without, empty = alternate(
            pairs,
            lambda: pytest_ms("-p", "mock_mcp.pytest_plugin"),
            pytest_ms,
            lambda: pytest_ms("-p", "empty_plugin"),
        )
    what = "pytest, plugin unused"
    yield Row(what, ours, "without it", without, "ms", 10, "difference")
    note = "what pytest does for any plugin it finds, it does here too"
    yield Row(what, ours, "with an empty plugin", empty, figure="difference", note=note)

"""Commands for which permissions of files hold, also when the tests run as root."""

from __future__ import annotations

import os
import shutil

import pytest

__all__ = ["unprivileged"]


def unprivileged() -> list[str]:
    """Return what to put before a command; skip the test where that cannot be done."""
    if not hasattr(os, "geteuid"):
        pytest.skip("permissions of POSIX")
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root writes anywhere, and there is no setpriv")
    overrides = "-dac_override,-dac_read_search"
    return ["setpriv", f"--bounding-set={overrides}", f"--inh-caps={overrides}"]

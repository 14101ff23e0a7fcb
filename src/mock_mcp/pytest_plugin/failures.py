"""How the errors of this project look in a test's report.

The way from the test to our error leads through an HTTP library and this package: frames that say
nothing to the reader. They are taken out, so that the line of the test's own code and the message
remain. An error with no such line, such as a setting that cannot be used, is its message alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import pytest

from mock_mcp.errors import MockMcpError

__all__ = ["presented", "presented_again", "shorten", "swallowed"]

_PACKAGE = Path(__file__).parents[1]


def presented(error: MockMcpError, root: Path) -> pytest.ExceptionInfo[BaseException]:
    """Return an error as pytest shall show it.

    Args:
        error: Whose traceback is replaced by that of the project's own frames.
        root: The project's directory: frames outside are not the reader's.
    """
    kept: TracebackType | None = None
    for frame in reversed(_frames(error.__traceback__)):
        if _is_theirs(Path(frame.tb_frame.f_code.co_filename), root):
            kept = TracebackType(kept, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    if kept is not None:
        return pytest.ExceptionInfo.from_exception(error.with_traceback(kept))
    return _told(error.message)


def presented_again(error: MockMcpError, first: str) -> pytest.ExceptionInfo[BaseException]:
    """Return an error as pytest shall show it where an earlier test has shown it already.

    Args:
        error: Such as that of a broken session fixture, which is raised for each of its tests.
        first: The test whose report shows all of it.
    """
    said = error.message.partition("\n")[0]
    return _told(f"{said}\n{first} failed with this before: all of it is there.")


def shorten(report: pytest.TestReport, error: MockMcpError) -> None:
    """Leave the module out of what a line of the summary says, which has no room for it."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        crash.message = crash.message.removeprefix(f"{type(error).__module__}.")


def swallowed(failures: Sequence[MockMcpError], raised: BaseException | None) -> list[MockMcpError]:
    """Return the failures that a report of ``raised`` does not show, each message once.

    Code that tries again fails again with the same.
    """
    shown: set[int] = set()
    said: set[str] = set()
    while raised is not None and id(raised) not in shown:
        shown.add(id(raised))
        if isinstance(raised, MockMcpError):
            said.add(raised.message)
        raised = raised.__cause__ or raised.__context__
    hidden: dict[str, MockMcpError] = {}
    for failure in failures:
        if failure.message not in said:
            hidden.setdefault(failure.message, failure)
    return list(hidden.values())


def _told(message: str) -> pytest.ExceptionInfo[BaseException]:
    try:
        pytest.fail(message, pytrace=False)
    except pytest.fail.Exception as failed:
        failed.__context__ = None
        return pytest.ExceptionInfo.from_exception(failed)


def _frames(traceback: TracebackType | None) -> list[TracebackType]:
    frames = []
    while traceback is not None:
        frames.append(traceback)
        traceback = traceback.tb_next
    return frames


def _is_theirs(file: Path, root: Path) -> bool:
    return (
        file.is_relative_to(root)
        and "site-packages" not in file.parts
        and not file.is_relative_to(_PACKAGE)
    )

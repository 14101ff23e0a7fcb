"""The real files are seen as long as somebody asks for them, and then the test's again."""

from __future__ import annotations

import os
from contextlib import ExitStack

from pyfakefs.fake_filesystem_unittest import Patcher

from mock_mcp.real_files import are_faked, on_real_files, real_files


def is_real() -> bool:
    return os.path.exists(__file__)  # noqa: PTH110 - a Path of before is of the other files


def test_the_last_who_leaves_brings_the_fake_files_back() -> None:
    with Patcher(), ExitStack() as first, ExitStack() as second:
        assert are_faked()
        assert not is_real()
        first.enter_context(real_files())
        second.enter_context(real_files())
        first.close()
        assert is_real()
        second.close()
        assert not is_real()


def test_they_are_seen_also_by_who_asked_before_there_were_fake_ones() -> None:
    with ExitStack() as early:
        early.enter_context(real_files())
        with Patcher():
            assert not is_real()
            with real_files():
                assert is_real()
            early.close()
            assert not is_real()


def test_fake_files_that_are_taken_away_meanwhile_do_not_come_back() -> None:
    with ExitStack() as held:
        with Patcher():
            held.enter_context(real_files())
        held.close()
        assert is_real()


def test_a_pause_of_the_test_s_own_goes_on() -> None:
    with Patcher() as patcher:
        patcher.pause()
        with real_files():
            assert is_real()
        assert is_real()
        patcher.resume()
        assert not is_real()


def test_a_function_sees_them_and_the_test_does_not() -> None:
    @on_real_files
    def look(*, unlike: bool) -> bool:
        return is_real() is not unlike

    assert look(unlike=False)
    with Patcher():
        assert look(unlike=False)
        assert not is_real()

"""Options that are wrong are refused in words."""

from __future__ import annotations

import pytest

from mock_mcp.cli import main


def test_an_unknown_option_is_answered_with_the_usage_of_its_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["check", "--jsn", "tests"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "usage: mock-mcp check " in said
    assert "unrecognized arguments: --jsn" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["daemon", "--idle-minutes", "soon"],
            "--idle-minutes: must be a number of minutes, 0 for ever, not 'soon'",
        ),
        (["daemon", "--idle-minutes", "-1"], "0 for ever, not '-1'"),
        (
            ["respond", "--using", "sample", "--rate", "fast"],
            "--rate: must be a positive number, not 'fast'",
        ),
        (["respond", "--using", "sample", "--rate", "0"], "must be a positive number, not '0'"),
        (
            ["respond", "--using", "sample", "--concurrency", "two"],
            "--concurrency: must be a whole number from 1, not 'two'",
        ),
        (["respond", "--using", "sample", "--concurrency", "0"], "from 1, not '0'"),
    ],
)
def test_a_wrong_number_is_named(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err

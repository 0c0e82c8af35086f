"""A command that the user can mend ends in one sentence."""

import pytest

import lit_dist.runs.lightning_cli  # noqa: F401  # now, since Lightning's logger keeps the stream that it finds
from lit_dist.cli.main import main


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence that a command ends with."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    error = capsys.readouterr().err
    assert ended.value.code == 1, error
    assert "usage" not in error
    assert "Traceback" not in error
    said = [line for line in error.splitlines() if line.startswith("lit-dist: ")]
    assert len(said) == 1, error
    return said[0].removeprefix("lit-dist: ")

import platform
from pathlib import Path

import pytest
import torch

import lit_dist.cli
from lit_dist.cli.main import main
from lit_dist.cli.overview import COMMANDS, LIGHTNINGS, versions
from lit_dist.runs.lightning_cli import SiteCLI


@pytest.mark.parametrize(("words", "status"), [([], 1), (["-h"], 0), (["--help"], 0)])
def test_each_command_has_a_line(words: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == status
    said = capsys.readouterr()[status]
    assert [line.split()[0] for line in said.splitlines()[4 : 4 + len(COMMANDS)]] == list(COMMANDS)


def test_every_command_is_there() -> None:
    assert set(LIGHTNINGS) == set(SiteCLI.subcommands())
    own = set(COMMANDS) - set(LIGHTNINGS)
    folder = Path(lit_dist.cli.__file__).parent
    assert own == {path.stem for path in folder.glob("*.py") if "\n    parser" in path.read_text()} - {"predict"}


def test_the_versions_are_those_of_the_process() -> None:
    said = versions()
    assert f"torch {torch.__version__.partition('+')[0]}" in said
    assert platform.python_version() in said

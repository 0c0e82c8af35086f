import contextlib
import io
import re

import pytest

import lit_dist
from lit_dist import callbacks, datamodules
from lit_dist.cli.fit_help import fit_help
from lit_dist.cli.main import main
from lit_dist.cli.overview import LIGHTNINGS


@pytest.fixture(scope="module")
def whole() -> str:
    """The help that the parser itself gives of ``fit``."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        patch.setattr("sys.argv", ["lit-dist"])
        main(["fit", "--help-all"])
    return said.getvalue()


def test_the_short_help_names_options_that_there_are(whole: str) -> None:
    named = set(re.findall(r"--[a-z][\w.]+", fit_help("fit").partition("  lit-dist fit --help-all")[0]))
    classes = {name for name in named if re.match(r"--(model|data|trainer\.callbacks)\.(?!help)", name)}
    known = set(re.findall(r"--[\w.]+", whole))
    assert named - classes <= known
    assert "--trainer.sync_batchnorm" in known - named


def test_it_names_every_class_of_ours() -> None:
    kinds = {*callbacks.__all__, *datamodules.__all__, *lit_dist.__all__}
    named = {name for name in kinds if re.search(rf"\b{name}\b", fit_help("fit"))}
    assert {name for name in callbacks.__all__} - named == {"RunCheckpoint", "WeightTransfer"}
    assert {name for name in kinds if name.endswith(("DataModule", "Encoder", "Classifier", "Predictor"))} - named == {
        "InstitutionDataModule",
        "SiteDataModule",
    }


@pytest.mark.parametrize("command", LIGHTNINGS)
def test_a_command_asks_for_it(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([command, "--config", "nowhere.yaml", "--help"])
    said = capsys.readouterr().out
    assert said.startswith(f"usage: lit-dist {command} --config FILE")
    assert ("--resume" in said) == (command == "fit")

import re
import tomllib
from pathlib import Path

import pytest

from lit_dist.cli.main import main
from lit_dist.utils import extras

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]


def test_what_a_missing_extra_is_and_how_it_comes_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lit_dist.utils.extras.find_spec", lambda name: None)
    monkeypatch.setattr("lit_dist.cli.overview.version", lambda name: extras.need("report", "the version"))
    with pytest.raises(SystemExit):
        main(["--version"])
    sentence = 'the version needs the extra `report`, which is not installed: pip install "lit_dist[report]"'
    assert capsys.readouterr().err == f"lit-dist: {sentence}\n"


@pytest.mark.parametrize("extra", extras._PACKAGES)
def test_an_extra_brings_the_package_by_which_it_is_known(extra: str) -> None:
    named = [re.split(r"[\[<>=]", each)[0] for each in PROJECT["optional-dependencies"][extra]]
    assert extras._PACKAGES[extra] in named
    assert not set(named) & {re.split(r"[\[<>=]", each)[0] for each in PROJECT["dependencies"]}


def test_a_package_that_an_extra_of_an_earlier_release_did_not_bring_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_dist.utils.extras.find_spec", lambda name: None if name == "captum" else name)
    extras.need("report", "a report")
    with pytest.raises(extras.MissingExtraError, match="--saliency needs the extra `report`"):
        extras.need("report", "--saliency", "captum")

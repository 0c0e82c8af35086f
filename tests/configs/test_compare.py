"""The configurations of studies say what their names promise, and name what is there."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from contract import once
from fake_fundus import write_fundus
from lit_dist.cli.compare import main
from lit_dist.datamodules import CountPartition, FundusDataModule, SizePartition
from lit_dist.runs.lightning_cli import own_parts
from lit_dist.study.settings import StudySettings, parsed, study_folder, study_parser
from small_collections import kind, slim, small_data

CONFIGS = Path(__file__).parents[2] / "configs"
STUDIES = sorted(CONFIGS.glob("*/compare*.yaml"))
FUNDUS = sorted((CONFIGS / "fundus").glob("compare*.yaml"))


def read(path: Path, *words: str) -> StudySettings:
    parser = study_parser()
    return parsed(parser, parser.parse_args(["--config", str(path), *words]))


def fundus(name: str, root: Path) -> tuple[StudySettings, FundusDataModule]:
    settings = read(CONFIGS / "fundus" / name, "--data.root", str(root))
    data = own_parts(settings.data, {})[0]
    assert isinstance(data, FundusDataModule)
    return settings, data


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_each_study_can_be_read_and_tells_its_own_command_and_folder(path: Path) -> None:
    settings = read(path).study
    head = path.read_text().partition("collection:")[0]
    assert f"lit-dist compare --config configs/{path.parent.name}/{path.name}" in head
    assert f"The study is left in {study_folder(None, settings)}" in head


@pytest.mark.slow
def test_no_two_studies_share_a_folder() -> None:
    collections = [read(path).study.collection for path in STUDIES]
    assert len(set(collections)) == len(collections) >= 7


@pytest.mark.parametrize("path", FUNDUS, ids=lambda path: path.stem)
def test_studies_of_fundus_photographs_differ_in_one_thing_alone(path: Path) -> None:
    def plain(settings: StudySettings) -> dict[str, Any]:
        data = {name: settings.data["init_args"][name] for name in settings.data["init_args"].keys() - OWN}
        return {"model": settings.model, "data": data, "trainer": settings.trainer, "seeds": settings.study.seeds}

    settings, data = fundus(path.name, once(write_fundus))
    common = read(CONFIGS / "fundus" / "compare.yaml", "--data.root", str(data.images.parent))
    assert plain(settings) == plain(common)
    assert settings.study.passes == common.study.passes == 20
    assert settings.study.seeds == [0, 1, 2]
    assert settings.study.every_n_epochs == ([1, 2, 4, 5, 10, 20] if path.stem == "compare" else [1])
    assert (settings.model["init_args"]["backbone"], data.size) == ("resnet34", 256)
    changed = {name for name in OWN if settings.data["init_args"][name] != common.data["init_args"][name]}
    assert len(changed) == (path.stem != "compare")


OWN = {"sites", "partition", "degrade"}


def test_each_variant_has_the_sites_that_its_name_says() -> None:
    root = once(write_fundus)
    assert fundus("compare_low_resolution.yaml", root)[1].degrade == {"site-1": 8}
    assert len(fundus("compare_20_sites.yaml", root)[1].site_names) == 20

    unequal = fundus("compare_unequal.yaml", root)[1]
    assert isinstance(unequal.partition, SizePartition)
    assert len(set(unequal.partition.sizes)) == len(unequal.site_names) == 4

    imbalanced = fundus("compare_imbalanced.yaml", root)[1]
    assert isinstance(imbalanced.partition, CountPartition)
    counts = np.array(imbalanced.partition.counts)
    assert len(set(counts.sum(axis=1))) == 1, "the sites are of one size"
    shares = counts[:, 1] / counts.sum(axis=1)
    assert shares[0] < 0.1
    assert (shares[1:] == 0.5).all()
    labels = np.repeat([0, 1], [12997, 3966])  # patients in Kaggle's trainLabels.csv
    sites = imbalanced.partition.assign(labels, imbalanced.site_names, np.random.default_rng(0))
    assert [
        [int(((sites == site) & (labels == label)).sum()) for label in (0, 1)] for site in range(4)
    ] == counts.tolist()


SMALL = [
    "--data.batch_size=8", "--seeds=[0]", "--optimizer_states=[reset]", "--passes=1", "--every_n_epochs=[1]",
    "--trainer.accelerator=cpu", "--heuristics=[cyclical_weight_transfer]",
]  # fmt: skip
OWN_OPTIONS = {
    "fundus/compare_imbalanced": ["--data.partition.counts=[[8, 4], [6, 6], [6, 6], [6, 6]]"],
    "fundus/compare_20_sites": ["--data.allow_one_class=true", "--data.test_fraction=0.3"],  # of so few photographs
    "frozen_features/compare_density": ["--data.val_fraction=0.25", "--data.allow_one_class=true"],
    "imagenet/compare": ["--model.num_classes=3"],
    "imagenet/compare_label_skew": ["--model.num_classes=3"],
}


LIKE_OTHERS = ("compare_unlike.yaml", "compare_density.yaml", "compare_methods.yaml")
"""Studies that differ from one beside them in a partition or their heuristics, or whose collection others have, too."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.long) if path.name in LIKE_OTHERS else path for path in STUDIES],
    ids=lambda path: f"{path.parent.name}/{path.stem}",
)
def test_each_study_runs(path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_dist.report.report.write_figures", lambda *_: {})  # nobody looks at them
    own = OWN_OPTIONS.get(f"{path.parent.name}/{path.stem}", [])
    main(
        [
            "--config",
            str(path),
            "--output",
            "study",
            *SMALL,
            *slim(kind(path), 4),
            *small_data(kind(path)),
            *own,
        ]
    )
    assert "done in " in capsys.readouterr().out
    [row] = pd.read_csv("study/results.csv").to_dict("records")
    assert row["heuristic"] == "cyclical_weight_transfer"
    assert row["visits"] == (20 if path.stem == "compare_20_sites" or path.parent.name == "abide" else 4)
    assert Path("study/report.html").exists()

"""A round of federated averaging whose visits and merge are repeated."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from lit_dist import InputError, read_checkpoint
from lit_dist.checkpoints.baton import write_checkpoint
from lit_dist.cli.main import main
from lit_dist.runs.replay import replay

ROOT = Path(__file__).parents[3]


def averaged(folder: Path, *words: str) -> Path:
    """Two rounds of three sites."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PL_GLOBAL_SEED", "0")
        small = "--data.sites=3 --data.patients=24 --data.size=32 --data.batch_size=5 --model.backbone=slim_resnet18"
        more = ["--model.backbone_kwargs={width: 8}", "--trainer.max_epochs=6", "--trainer.callbacks.baton_dir=batons"]
        config = ROOT / "configs/phantom/federated_averaging.yaml"
        main(["fit", "--config", str(config), *small.split(), *more, *words])
    return folder / "runs/phantom/federated_averaging/version_0"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return averaged(tmp_path_factory.mktemp("averaged"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*the visit is skipped", "ignore:`training_step` returned `None`")
def test_a_merge_is_repeated_with_the_last_visit_that_was_trained(tmp_path: Path) -> None:
    spoiled = "--trainer.callbacks.on_divergence=skip --trainer.callbacks+=spoil.Spoil --trainer.callbacks.visit=5"
    run = averaged(tmp_path, *spoiled.split())
    said = replay(run, 4).splitlines()
    assert [line.partition(",")[0] for line in said] == ["Visit 4 at 'site-2'", "Cycle 1"]
    assert "merged again" not in replay(run, 3)
    with pytest.raises(InputError, match="no visit 5 that was trained in one piece"):
        replay(run, 5)


@pytest.mark.slow
def test_visits_and_merges_are_repeated(run: Path) -> None:
    assert "merged again" not in replay(run, 0)
    for visit, cycle in ((2, 0), (5, 1)):
        said = replay(run, visit).splitlines()
        assert [line.partition(",")[0] for line in said] == [f"Visit {visit} at 'site-3'", f"Cycle {cycle}"]


@pytest.mark.parametrize("name", ["visit_000003.weights", "visit_000004.baton", "visit_000005.weights"])
def test_a_sum_of_other_weights_is_noticed(run: Path, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    baton: dict[str, Any] = read_checkpoint(copy / "batons" / name)
    if name.endswith("weights"):
        next(iter(baton["state_dict"].values())).add_(1)
    else:
        state = next(state for state in baton["callbacks"].values() if "merging" in state)
        next(iter(state["merging"]["sums"][0].values())).add_(1)
    write_checkpoint(baton, copy / "batons" / name)
    with pytest.raises(InputError, match=r"does not have the weights that visit [35]|the sum in the baton of visit 4"):
        replay(copy, 5)

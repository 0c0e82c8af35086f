import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lit_dist.report.methods import methods
from lit_dist.report.results import columns
from lit_dist.report.tables import Tables
from lit_dist.study.environment import ENVIRONMENT
from lit_dist.study.plan import make_plan
from lit_dist.tasks.classification import Classification
from small_study import SMALL, settings

WHICH = ("heuristic", "kind", "site", "every_n_epochs", "every_n_steps", "order", "optimizer_state", "seed")


def words(monkeypatch: pytest.MonkeyPatch, folder: Path, *options: str, **changes: Any) -> str:
    """The methods of a study whose runs are finished, but have left no files."""
    monkeypatch.chdir(folder)
    Path("t.csv").write_text("height,FEV1/FVC\n" + "".join(f"{n},{n / 40}\n" for n in range(40)))
    study = settings(*options, **changes)
    runs = make_plan(study)
    rows = [{"run": run.name, **{name: getattr(run, name) for name in WHICH}, "n": 12, "steps": 16} for run in runs]
    results = pd.DataFrame(rows, columns=columns(Classification(2)))
    empty = pd.DataFrame(columns=["metric"])
    tables = Tables(folder, results, empty, empty, empty, empty, Classification(2))
    return "\n".join(methods(runs, study, tables).values())


RING = {"class_path": "FederatedAveraging", "init_args": {"every_n_epochs": 1, "ring": 2}}
OWN = {"name": "mine & more", "callbacks": RING}
FED_PROX = {"class_path": "FedProx", "init_args": {"mu": 0.3}}
NEAR = {"name": "near", "heuristic": "cyclical_weight_transfer", "callbacks": [FED_PROX]}


STEP = ["--model.lr_scheduler=torch.optim.lr_scheduler.StepLR", "--model.lr_scheduler.step_size=3"]
CLIP = ["--trainer.gradient_clip_val=2", "--trainer.gradient_clip_algorithm=value"]
TABULAR = {"class_path": "TabularPredictor", "init_args": {"task": "regression", "numeric": 1, "categorical": 1}}
TABLE = {
    "class_path": "TabularDataModule",
    "init_args": {"root": "", "table": "t.csv", "target": "FEV1/FVC", "task": "regression", "sites": 2},
}


@pytest.mark.parametrize(
    ("options", "changes", "said"),
    [
        ([], {}, "seed (0)"),
        (["--seeds=[3,5]"], {}, "2 seeds (3, 5)"),
        (["--model.optimizer=torch.optim.Adam", "--model.optimizer.lr=0.025"], {}, "Adam (lr 0.025"),
        (["--model.dropout=0.35"], {}, "dropout 0.35"),
        (["--data.split_seed=7"], {}, "with the seed 7"),
        (["--data.test_fraction=0.25"], {}, "0.25 for the test"),
        (["--data.batch_size=5"], {}, "in batches of 5"),
        (["--data.augmentation=Augmentation", "--data.augmentation.rotation=15"], {}, "rotation 15"),
        (["--data.partition=DirichletPartition", "--data.partition.alpha=0.7"], {}, "DirichletPartition (alpha 0.7"),
        (["--trainer.gradient_clip_val=0.5"], {}, "clipped at 0.5"),
        (["--trainer.accumulate_grad_batches=2"], {}, "accumulated over 2 batches"),
        (["--monitor=val_auroc", "--mode=max"], {}, "highest val_auroc"),
        ([], {}, "a single-institution model was chosen by its own site's validation records."),
        ([], {}, "single transfer at most as many"),
        ([], {}, "The optimizer was Adam (lr 0.001), without a schedule."),
        ([*STEP, "--model.lr_scheduler_interval=step"], {}, "StepLR (step_size 3) that advanced after each step"),
        ([*STEP, "--model.lr_scheduler_frequency=4"], {}, "that advanced after each 4 epochs"),
        (CLIP, {}, "Gradients were clipped at 2. Further settings: Trainer (gradient_clip_algorithm value)."),
        (["--trainer.limit_val_batches=3"], {}, "Trainer (limit_val_batches 3)"),
        (["--trainer.check_val_every_n_epoch=2"], {}, "Trainer (check_val_every_n_epoch 2)"),
        ([], {"model": TABULAR, "data": TABLE}, "gaps filled with the mean, of the training records of all sites in"),
        ([], {"model": TABULAR, "data": TABLE}, "categories became indicators"),
        ([], {"model": TABULAR, "data": TABLE}, "target FEV1/FVC, "),
        (["--optimizer_states=[carry]"], {}, "travelling along"),
        (["--patience=9"], {}, "9 validations"),
        ([], {"heuristics": ["central", OWN]}, "mine & more: FederatedAveraging (weighting images, ring 2"),
        ([], {"heuristics": ["central", NEAR]}, "with FedProx (mu 0.3"),
    ],
)
def test_the_methods_say_what_the_settings_are(
    options: list[str], changes: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said in words(monkeypatch, tmp_path, *options, **changes)


def test_a_heuristic_that_lacks_what_others_have_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statistics = {"class_path": "SiteStatistics", "init_args": {"images": 8}}
    other = {"name": "shared", "heuristic": "central", "callbacks": {**statistics, "init_args": {"images": 0}}}
    trainer = {**SMALL["trainer"], "callbacks": [statistics]}
    found = words(monkeypatch, tmp_path, heuristics=["central", other], trainer=trainer)
    assert "with SiteStatistics (images 0) in place of SiteStatistics (images 8)" in found
    assert "All runs had SiteStatistics (images 8), unless said otherwise." in found


def test_the_machines_are_those_of_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = words(monkeypatch, tmp_path, heuristics=["central"])
    assert "What the runs were done with was not recorded." in found
    [run] = make_plan(settings(heuristics=["central"]))
    there = {"device": "NVIDIA H200", "processor": "a processor", "precision": "16-mixed", "cuda": "13"}
    programs = {"torch": "9.9", "threads": "3"}
    (tmp_path / "runs" / run.name).mkdir(parents=True)
    (tmp_path / "runs" / run.name / ENVIRONMENT).write_text(json.dumps({**there, "versions": programs}))
    found = words(monkeypatch, tmp_path, heuristics=["central"])
    assert "PyTorch 9.9, on NVIDIA H200 (CUDA 13) beside a processor, in precision 16-mixed, with 3 threads" in found

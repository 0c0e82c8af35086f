"""A finished run, which several commands are tried on."""

import json
from pathlib import Path

import pandas as pd
import pytest

from lit_dist.cli.main import main
from small_tables import write_patients

SMALL = ["--data.patients=20", "--data.size=32", "--trainer.max_epochs=4", "--trainer.enable_progress_bar=false"]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on phantoms, with the predictions of its best model."""
    words = ["--model.backbone=squeezenet1_1", "--seed_everything=2", "--model.optimizer.init_args.lr=0.0001"]
    run = finished(tmp_path_factory.mktemp("run"), *words)
    found = pd.read_csv(run / "predictions.csv")["probability_1"]
    assert found.nunique() == len(found), "a network that says the same of all images would hide any fault"
    return run


@pytest.fixture(scope="session")
def run_by_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a run in which each site keeps its own statistics of batch normalisation."""
    best = {"monitor": "val_loss", "filename": "best", "enable_version_counter": False}
    callbacks = [
        {"class_path": "CyclicalWeightTransfer", "init_args": {"every_n_epochs": 1, "validation": "cycle"}},
        {"class_path": "LocalBatchNorm", "init_args": {"images": 8}},
        {"class_path": "ModelCheckpoint", "init_args": best},
    ]
    words = ["--model.backbone=shufflenet_v2_x0_5", f"--trainer.callbacks={json.dumps(callbacks)}"]
    return finished(tmp_path_factory.mktemp("run"), *words)


@pytest.fixture(scope="session")
def run_on_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on three hospitals' patients; the table is not where it was."""
    folder = tmp_path_factory.mktemp("run")
    write_patients(folder / "patients")
    best = {"monitor": "val_loss", "filename": "best", "enable_version_counter": False}
    callbacks = [
        {"class_path": "CyclicalWeightTransfer", "init_args": {"every_n_epochs": 1, "validation": "cycle"}},
        {"class_path": "ModelCheckpoint", "init_args": best},
        {"class_path": "PredictionWriter"},
        {"class_path": "VisitAveraging"},  # predictions are the average's
    ]
    logger = {"class_path": "CSVLogger", "init_args": {"save_dir": "runs", "name": "table"}}
    words = ["--model=TabularPredictor", "--model.numeric=3", "--model.categorical=1", "--model.num_classes=2",
             "--model.indicators=true", "--data=TabularDataModule", "--data.root=patients", "--data.table=patients.csv",
             "--data.target=ill", "--data.classes=['no', 'yes']", "--data.features=[weight, blood, height, smoker]",
             "--data.categorical=[blood]", "--data.site_column=hospital", "--data.id_column=id",
             "--data.patient_column=patient", f"--trainer.callbacks={json.dumps(callbacks)}",
             f"--trainer.logger={json.dumps(logger)}", "--trainer.max_epochs=6", "--trainer.accelerator=cpu",
             "--trainer.enable_progress_bar=false"]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["fit", *words])
        run = folder / "runs/table/version_0"
        main(["predict", "--config", str(run / "config.yaml"), "--ckpt_path", str(run / "checkpoints/best.ckpt")])
        (run.parent / "version_1/predictions.csv").rename(run / "predictions.csv")
        (folder / "patients/patients.csv").rename(run / "patients.csv")
    return run


def finished(folder: Path, *words: str) -> Path:
    """The folder of a run in another one, with the predictions of its best model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["fit", "--config", "configs/phantom/cyclical.yaml", *words, *SMALL])
        run = folder / "runs/phantom/cyclical/version_0"
        best = str(run / "checkpoints/best.ckpt")
        main(["predict", "--config", str(run / "config.yaml"), "--ckpt_path", best])
        (run.parent / "version_1/predictions.csv").rename(run / "predictions.csv")
    return run

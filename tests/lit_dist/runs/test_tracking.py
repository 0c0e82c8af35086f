"""Weights & Biases without a network: an offline run is written and read back, and nothing waits for a key."""

import os
import subprocess
from pathlib import Path

import pytest
import wandb_reader

FIT = [
    "lit-dist", "fit", "--config", "configs/phantom/cyclical.yaml", "--data.patients=20", "--data.size=32",
    "--trainer.log_every_n_steps=1", "--trainer.enable_progress_bar=false",
    "--model.backbone=slim_resnet18", "--model.backbone_kwargs={width: 8}",
    "--trainer.logger+=WandbLogger", "--trainer.logger.project=lit_dist", "--trainer.logger.save_dir=tracked",
]  # fmt: skip


def run(mode: str | None, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment |= {"HOME": str(Path.cwd()), "NETRC": str(Path.cwd() / "none"), "OMP_NUM_THREADS": "1"}
    environment |= {"WANDB_MODE": mode} if mode else {}
    Path("tracked").mkdir(exist_ok=True)
    return subprocess.run(
        [*FIT, *words], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200
    )


@pytest.mark.slow
def test_an_offline_run_holds_what_colours_the_curves_and_is_one_run_where_it_is_resumed() -> None:
    asked = ["--trainer.callbacks+=WandbArtifacts", "--trainer.callbacks.model=true"]
    for epochs in (2, 4):
        done = run("offline", f"--trainer.max_epochs={epochs}", "--resume", *asked)
        assert done.returncode == 0, done.stderr
    first, second = sorted(Path("tracked/wandb").glob("offline-run-*/*.wandb"))
    ids = {record.run.run_id for path in (first, second) for record in wandb_reader.records(path) if record.run.run_id}
    assert len(ids) == 1
    rows = [row for path in (first, second) for row in wandb_reader.history(path)]
    training = [row for row in rows if "train_loss" in row]
    assert [(row["visit"], row["cycle"], row["site"]) for row in training] == [(n, 0, n) for n in range(4)]
    [validation] = [row for row in rows if "val_loss" in row]
    assert {f"val_auroc/site-{n}" for n in (1, 2, 3, 4)} <= set(validation)
    settings = wandb_reader.config(second)
    assert settings["sites"] == {"0": "site-1", "1": "site-2", "2": "site-3", "3": "site-4"}
    assert settings["backbone"] == "slim_resnet18"
    assert wandb_reader.artifacts(first) == {}  # nothing was validated by then
    assert {kind: set(files) for kind, files in wandb_reader.artifacts(second).items()} == {"model": {"best.ckpt"}}
    for path in (first, second):  # neither images nor patients
        assert not {file.suffix for file in path.parent.rglob("files/*")} & {".png", ".jpg", ".csv", ".ckpt"}
        assert b"patient-" not in path.read_bytes()
        assert not {"output", "output_raw"} & {each.WhichOneof("record_type") for each in wandb_reader.records(path)}


@pytest.mark.slow
def test_no_key_is_an_answer_and_not_a_wait() -> None:
    done = run(None)
    assert done.returncode == 1
    assert "lit-dist: W&B: No API key configured" in done.stderr
    assert "WANDB_MODE=offline" in done.stderr
    assert "Traceback" not in done.stderr

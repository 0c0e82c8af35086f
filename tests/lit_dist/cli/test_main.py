"""The command line, as a user meets it."""

import json
import logging
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from lit_dist import ImageClassifier, TabularPredictor
from lit_dist.checkpoints.baton import write_checkpoint
from lit_dist.checkpoints.run_files import FILES
from lit_dist.cli.main import main
from small_collections import VECTORS, slim, small_data

QUIET = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
SMALL = ["--data.patients=40", "--data.size=32", *QUIET]
SLIM = ["--model.backbone=slim_resnet18", "--model.backbone_kwargs={width: 8}"]
FIT = ["fit", "--config", "configs/phantom/cyclical.yaml", *SMALL, *SLIM, "--trainer.max_epochs=4"]


def classes_of(collection: str) -> int:
    return 3 if collection == "imagenet" else 2


def command(*words: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=200, **settings)


def untrained(path: str, collection: str = "") -> str:
    """A checkpoint of a slim network that nothing has trained."""
    model: LightningModule = ImageClassifier("slim_resnet18", classes_of(collection), backbone_kwargs={"width": 8})
    if collection == "abide":
        model = TabularPredictor("regression", numeric=259)
    if collection == "heart":
        model = TabularPredictor(num_classes=2, numeric=9, categorical=4, slots=4)
    write_checkpoint({"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}, Path(path))
    return path


def run_folder(heuristic: str = "phantom/cyclical") -> Path:
    return sorted((Path("runs") / heuristic).glob("version_*"), key=lambda path: int(path.name.split("_")[1]))[-1]


def test_the_version_is_the_packages() -> None:
    for start in (["lit-dist"], [sys.executable, "-m", "lit_dist"]):
        assert version("lit_dist") in command(*start, "--version").stdout


def test_nobody_reads_on() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "lit_dist", "--version"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_lightning_recommends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    main(["--version"])
    with caplog.at_level(logging.INFO):
        Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
        rank_zero_info("💡 Tip: buy it")
        rank_zero_info("said")
    assert "said" in caplog.messages
    assert "💡" not in caplog.text


def test_the_usage_of_a_command_is_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--help-all"])
    assert "{fit," not in capsys.readouterr().out.partition("[-c CONFIG]")[0]


@pytest.mark.slow
def test_a_run_leaves_its_record_and_its_best_model_is_tested_and_predicts(capsys: pytest.CaptureFixture[str]) -> None:
    main(FIT)
    shown = capsys.readouterr().out
    assert "site-4" in shown
    assert "majority" in shown
    run = run_folder()
    names = {"checkpoints", "config.yaml", "hparams.yaml", "ledger.jsonl", "lock", "metrics.csv", "splits.csv"}
    names.add("signature.json")
    assert {path.name for path in run.iterdir()} == names
    assert names - {"checkpoints"} <= set(FILES)  # which are looked at before a run begins
    lines = [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]
    assert [line["site"] for line in lines] == ["site-1", "site-2", "site-3", "site-4"]
    assert all(line["images"] == 28 for line in lines)
    metrics = pd.read_csv(run / "metrics.csv")
    assert metrics["val_loss"].notna().sum() == 1, "validated after the whole cycle"
    assert {"visit", "cycle", "site", "train_loss", "val_auroc/site-3", "val_majority_rate"} <= set(metrics.columns)

    best = str(run / "checkpoints" / "best.ckpt")
    main(["test", "--config", str(run / "config.yaml"), "--ckpt_path", best])
    table = capsys.readouterr().out
    assert "test records" in table
    assert "balanced accuracy" in table
    assert "DataLoader" not in table
    main(["validate", "--config", str(run / "config.yaml"), "--ckpt_path", best])
    assert f"{metrics['val_loss'].dropna().item():.3f}" in capsys.readouterr().out
    main(["predict", "--config", str(run / "config.yaml"), "--ckpt_path", best])
    predictions = pd.read_csv(run_folder() / "predictions.csv")
    splits = pd.read_csv(run / "splits.csv")
    assert sorted(predictions["image"]) == sorted(splits.loc[splits["split"] == "test", "image"])
    assert (predictions["probability_0"] + predictions["probability_1"]).tolist() == pytest.approx([1.0] * 24)
    merged = predictions.merge(splits, on="image")
    assert (merged["label_x"] == merged["label_y"]).all()
    assert (merged["site_x"] == merged["site_y"]).all()


@pytest.mark.slow
def test_options_reach_sites_backbone_and_the_callback() -> None:
    main([*FIT, "--data.sites=['mgh', 'ucsf']", "--model.backbone=shufflenet_v2_x0_5", "--data.batch_size=8",
          "--model.backbone_kwargs={}", "--data.num_workers=1", "--trainer.callbacks+=EarlyStopping",
          "--trainer.callbacks.monitor=val_loss", "--trainer.max_epochs=2"])  # fmt: skip
    config = yaml.safe_load((run_folder() / "config.yaml").read_text())
    assert config["model"]["init_args"]["backbone"] == "shufflenet_v2_x0_5"
    lines = (run_folder() / "ledger.jsonl").read_text().splitlines()
    assert [json.loads(line)["site"] for line in lines] == ["mgh", "ucsf"]


def test_one_callback_need_not_be_in_a_list() -> None:
    config = yaml.safe_load((Path(__file__).parents[3] / "configs/phantom/cyclical.yaml").read_text())
    config["trainer"]["callbacks"] = config["trainer"]["callbacks"][0]
    Path("own.yaml").write_text(yaml.safe_dump(config))
    main(["fit", "--config", "own.yaml", *SMALL, *SLIM, "--data.sites=2", "--trainer.max_epochs=2"])
    assert len((run_folder() / "ledger.jsonl").read_text().splitlines()) == 2


def test_partition_augmentation_and_schedule_are_set_by_class_and_option() -> None:
    options = [
        "--data.partition=DirichletPartition", "--data.partition.alpha=5", "--data.partition.smallest=3",
        "--data.augmentation=Augmentation", "--data.augmentation.rotation=20", "--data.eyes=both",
        "--model.lr_scheduler=lightning.pytorch.cli.ReduceLROnPlateau", "--model.lr_scheduler.monitor=val_loss",
        "--model.lr_scheduler_frequency=4", "--data.allow_one_class=true",
    ]  # fmt: skip
    main(["fit", "--config", "configs/fundus/cyclical.yaml", *small_data("fundus"), *SLIM, *options, *QUIET,
          "--trainer.max_epochs=4"])  # fmt: skip
    sizes = pd.read_csv(run_folder("fundus/cyclical") / "splits.csv").groupby("site").size()
    assert len(sizes) == 4
    assert sizes.max() > sizes.min() + 4


@pytest.mark.slow
def test_the_same_command_gives_the_same_weights_twice() -> None:
    hashes, one_cycle = [], [*FIT, "--data.sites=2", "--trainer.max_epochs=2"]
    for _ in range(2):
        main(one_cycle)
        hashes.append(json.loads((run_folder() / "ledger.jsonl").read_text().splitlines()[-1])["sha256_out"])
    assert hashes[0] == hashes[1]
    main([*one_cycle, "--seed_everything=1"])
    assert json.loads((run_folder() / "ledger.jsonl").read_text().splitlines()[-1])["sha256_out"] != hashes[0]


# -- each shipped configuration --------------------------------------------------------------------------------------

CONFIGS = sorted(path for path in (Path(__file__).parents[3] / "configs").glob("*/*.yaml"))
COMMANDS = {"compare": "compare", "ensemble": "test"}
"""The commands of configurations that are not for a fit."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        path if path.parent.name == "phantom" else pytest.param(path, marks=pytest.mark.slow)
        for path in CONFIGS
        if not path.stem.startswith("compare")
    ],
    ids=lambda path: f"{path.parent.name}/{path.stem}",
)
@pytest.mark.filterwarnings("ignore:.*validation records of .* are all of the class")  # so few of drawn mammograms are
def test_each_configuration_runs(path: Path) -> None:
    collection = path.parent.name
    words = ["--config", str(path), "--data.sites=2", *small_data(collection), *QUIET]
    if path.stem == "ensemble":
        members = ", ".join(untrained(f"{number}.ckpt", collection) for number in range(2))
        main(["test", *words, f"--model.checkpoints=[{members}]"])
    else:
        own = [] if collection in VECTORS else [f"--model.num_classes={classes_of(collection)}"]
        cycle = {"abide": 20, "heart": 4}.get(collection, 6 if path.stem == "daisy_chaining" else 2)
        main(["fit", *words, *slim(collection), *own, f"--trainer.max_epochs={cycle}"])
    run = run_folder(f"{collection}/{path.stem}")
    assert (run / "metrics.csv").exists()
    assert (run / "checkpoints" / "best.ckpt").exists() == (path.stem != "ensemble")
    assert (run / "ledger.jsonl").exists() == (path.stem not in ("central", "single", "ensemble"))


def test_a_fast_run_leaves_nothing() -> None:
    main([*FIT, "--trainer.fast_dev_run=true"])
    assert not Path("runs").exists()


@pytest.mark.slow
def test_models_of_single_sites_are_tested_and_predict_as_an_ensemble(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--data.sites=2", *SMALL]
    tables, paths = [], []
    for number, backbone in enumerate(("slim_resnet18", "squeezenet1_1")):
        fit = ["fit", "--config", "configs/phantom/single.yaml", f"--data.only_site=site-{number + 1}"]
        main([*fit, *small, f"--model.backbone={backbone}", "--trainer.max_epochs=1", "--data.batch_size=8"])
        run = run_folder("phantom/single")
        assert (run.name, (run / "ledger.jsonl").exists()) == (f"version_{number}", False)
        metrics = pd.read_csv(run / "metrics.csv")
        assert [name for name in metrics if "val_loss/" in name] == [f"val_loss/site-{number + 1}"]
        paths.append(f"{run}/checkpoints/best.ckpt")
        main(["predict", "--config", f"{run}/config.yaml", f"--ckpt_path={paths[-1]}"])
        tables.append(pd.read_csv(run_folder("phantom/single") / "predictions.csv"))
        shutil.rmtree(run_folder("phantom/single"))  # so that the runs are numbered as the header says

    config = ["--config", "configs/phantom/ensemble.yaml", *small]
    config.append(f"--model.checkpoints=[{', '.join(paths)}]")
    splits = pd.read_csv("runs/phantom/single/version_0/splits.csv")
    sizes = splits[splits["split"] == "train"].groupby("site").size().tolist()
    for weights, shares in {"[3, 1]": [3, 1], "size": sizes, "equal": [1, 1]}.items():
        main(["predict", *config, f"--model.weights={weights}"])
        found = pd.read_csv(run_folder("phantom/ensemble") / "predictions.csv")
        assert found["image"].tolist() == tables[0]["image"].tolist() == tables[1]["image"].tolist()
        for column in ("probability_0", "probability_1"):
            mean = (shares[0] * tables[0][column] + shares[1] * tables[1][column]) / sum(shares)
            assert found[column].tolist() == pytest.approx(mean.tolist(), abs=1e-6)
    assert (tables[0]["probability_1"] - tables[1]["probability_1"]).abs().max() > 1e-3

    capsys.readouterr()
    main(["test", *config])
    table = capsys.readouterr().out
    assert all(word in table for word in ("test records", "all sites", "site-1", "site-2"))
    tested = pd.read_csv(run_folder("phantom/ensemble") / "metrics.csv")
    right = (found["probability_1"] > 0.5) == (found["label"] == 1)
    assert tested["test_accuracy"].item() == pytest.approx(right.mean())
    assert tested["test_accuracy/site-2"].item() == pytest.approx(right[found["site"] == "site-2"].mean())


@pytest.mark.slow
def test_an_ensemble_is_not_fitted_and_needs_checkpoints(capsys: pytest.CaptureFixture[str]) -> None:
    config = ["--config", "configs/phantom/ensemble.yaml", *SMALL]
    assert_one_message(["test", *config], "an ensemble needs members: give checkpoints=", capsys)
    assert_one_message(["predict", *config, "--model.checkpoints=[a.ckpt]"], "a.ckpt cannot be read: No such", capsys)
    fit = ["fit", *config, "--trainer.max_epochs=1", f"--model.checkpoints=[{untrained('a.ckpt')}]"]
    assert_one_message(fit, "an ensemble is not trained", capsys)


def assert_one_message(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 1
    error = capsys.readouterr().err
    assert f"lit-dist: {message}" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_each_configuration_says_how_it_is_run(path: Path) -> None:
    header = path.read_text().split("\n\n")[0]
    command = COMMANDS.get(path.stem.partition("_")[0], "fit")
    assert f"lit-dist {command} --config configs/{path.parent.name}/{path.name}" in header
    assert header.startswith("# ")


@pytest.mark.slow
def test_cyclical_and_central_train_on_the_same_real_photographs_for_the_same_steps(eyepacs: Path) -> None:
    words = [f"--data.root={eyepacs}", "--data.size=32", "--data.radius=60", "--data.eyes=left", "--data.num_workers=0",
             *SLIM, *QUIET]  # fmt: skip
    main(["fit", "--config", "configs/fundus/cyclical.yaml", *words, "--trainer.max_epochs=4"])
    cyclical = run_folder("fundus/cyclical")
    lines = [json.loads(line) for line in (cyclical / "ledger.jsonl").read_text().splitlines()]
    steps = sum(line["steps"] for line in lines)
    budget = ["--trainer.max_epochs=-1", f"--trainer.max_steps={steps}"]
    main(["fit", "--config", "configs/fundus/central.yaml", *words, *budget])
    central = run_folder("fundus/central")
    assert (central / "splits.csv").read_text() == (cyclical / "splits.csv").read_text()
    assert pd.read_csv(central / "metrics.csv")["step"].max() == steps - 1
    assert (cyclical / "checkpoints" / "best.ckpt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_a_model_that_nothing_has_trained_is_judged_with_a_warning(command: str, tmp_path: Path) -> None:
    words = [command, "--config", "configs/phantom/cyclical.yaml", *SMALL, *SLIM]
    with pytest.warns(UserWarning, match=f"{command} has no --ckpt_path, .* weights that nothing has trained"):
        main(words)
    if command == "validate":  # given weights are not warned of
        main([*words, f"--model.weights={untrained('a.ckpt')}"])


# -- what goes wrong -------------------------------------------------------------------------------------------------


def test_a_missing_configuration_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--config", "nowhere.yaml"])
    assert "nowhere.yaml" in capsys.readouterr().err


@pytest.mark.slow
def test_settings_may_be_long_json() -> None:
    model = {"class_path": "ImageClassifier", "init_args": {"backbone": "slim_resnet18", "num_classes": 2}}
    main(["fit", "--config", "configs/phantom/cyclical.yaml", "--model", json.dumps(model, indent=40), *SMALL,
          "--trainer.fast_dev_run=true"])  # fmt: skip


def test_a_file_here_goes_before_a_shipped_one() -> None:
    Path("configs/phantom").mkdir(parents=True)
    Path("configs/phantom/cyclical.yaml").write_text("this: is not ours\n")
    with pytest.raises(SystemExit):
        main(FIT)

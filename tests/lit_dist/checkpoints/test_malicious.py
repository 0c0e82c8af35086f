"""Files that run a program when they are unpickled, given to every command that takes a path."""

import contextlib
from pathlib import Path

import pytest
import torch
import yaml
from one_sentence import refused
from pickles import PICKLES, RAN, Payload

import program
from lit_dist.callbacks import CyclicalWeightTransfer, RunCheckpoint
from lit_dist.cli.main import main
from small import SmallData, SmallModule, fit, trainer

SMALL = [
    "--config", "configs/phantom/cyclical.yaml", "--data.patients=40", "--data.sites=2", "--data.size=32",
    "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu",
    "--model.backbone=slim_resnet18", "--model.backbone_kwargs={width: 8}",
]  # fmt: skip
RUN = Path("runs/phantom/cyclical/version_0")


CONTENT = {"state_dict": {"weight": torch.zeros(2)}, "hyper_parameters": {"lr": Payload()}}


def malicious(path: Path, kind: str = "zip") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PICKLES[kind](CONTENT, path)
    return path


def assert_refused(path: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A command fails with one line that names a file, whose payload did not run."""
    assert str(path) in refused(words, capsys)
    assert not RAN.exists()


@pytest.mark.parametrize("kind", PICKLES)
def test_the_payload_would_run(kind: str) -> None:
    with contextlib.suppress(RuntimeError):
        torch.load(malicious(Path("evil.pt"), kind), weights_only=False)
    assert RAN.exists()


BOTH = ["zip", "text"]
"""One that is known by its first bytes, and one that is not."""

FILES = list(zip(PICKLES, ("evil.ckpt", "evil.pt", "evil.safetensors", "evil.ckpt"), strict=True))


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize(("kind", "name"), FILES)
def test_ckpt_path_runs_nothing(command: str, kind: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = malicious(Path(name), kind)
    assert_refused(path, [command, *SMALL, "--ckpt_path", name], capsys)


@pytest.mark.parametrize("kind", PICKLES)
@pytest.mark.parametrize("name", ["evil.pt", "evil.safetensors"])
def test_weights_run_nothing(kind: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = malicious(Path(name), kind)
    assert_refused(path, ["fit", *SMALL, "--model.weights", name], capsys)


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
@pytest.mark.parametrize("kind", BOTH)
def test_checkpoints_of_an_ensemble_run_nothing(command: str, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = malicious(Path("evil.ckpt"), kind)
    words = [word.replace("cyclical", "ensemble") for word in SMALL if not word.startswith("--model")]
    assert_refused(path, [command, *words, "--model.checkpoints=[evil.ckpt]"], capsys)


def test_a_checkpoint_of_lightning_is_refused_too(capsys: pytest.CaptureFixture[str]) -> None:
    run, path = trainer(CyclicalWeightTransfer(every_n_epochs=1), max_epochs=1), Path("lightning.ckpt")
    run.fit(SmallModule(), SmallData())
    run.save_checkpoint(path)
    assert torch.load(path, weights_only=True)["global_step"] == 4
    assert_refused(path, ["fit", *SMALL, "--ckpt_path", str(path)], capsys)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(("word", "name"), [("hpc", "hpc_ckpt_1.ckpt"), ("last", "last.ckpt")])
def test_a_checkpoint_that_lightning_finds_itself_runs_nothing(
    word: str, name: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = malicious(Path(name), kind)
    options = ["--trainer.callbacks.dirpath=."]
    assert_refused(path, ["fit", *SMALL, *options, "--ckpt_path", word], capsys)


@pytest.mark.parametrize("kind", BOTH)
def test_a_table_runs_nothing(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = malicious(Path("splits.csv"), kind)
    assert_refused(path, ["fit", *SMALL, "--data.splits", str(path)], capsys)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("name", ["evil.yaml", "evil.ckpt"])
def test_a_configuration_runs_nothing(name: str, kind: str) -> None:
    path = malicious(Path(name), kind)
    with pytest.raises(SystemExit):
        main(["fit", *SMALL, "--config", str(path)])
    assert not RAN.exists()


@pytest.mark.parametrize("kind", ["pickle", "zip"])
@pytest.mark.parametrize("words", [["--config", "evil.yaml"], ["--config=evil.ckpt"], ["--trainer", "evil.ckpt"]])
def test_a_configuration_that_is_no_text_is_named(
    words: list[str], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = malicious(Path(words[-1].rpartition("=")[2]), kind)
    assert_refused(path, ["fit", *SMALL, *words], capsys)


# -- in a run's folder -------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*it is passed over:UserWarning")
@pytest.mark.parametrize("kind", BOTH)
def test_resume_runs_nothing(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = malicious(RUN / "checkpoints" / "step_00000099.ckpt", kind)
    assert_refused(path, ["fit", *SMALL, "--resume"], capsys)


@pytest.mark.filterwarnings("ignore:.*it is passed over:UserWarning")
@pytest.mark.parametrize("kind", BOTH)
def test_verify_runs_nothing(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    fit(CyclicalWeightTransfer(every_n_epochs=1), default_root_dir=RUN, max_epochs=2)
    path = malicious(RUN / "checkpoints" / "step_00000099.ckpt", kind)
    assert_refused(path, ["verify", str(RUN)], capsys)


@pytest.mark.parametrize("kind", BOTH)
def test_verify_names_it_though_there_is_an_older_checkpoint(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    fit(CyclicalWeightTransfer(every_n_epochs=1), RunCheckpoint(), default_root_dir=RUN, max_epochs=2)
    path = malicious(RUN / "checkpoints" / "step_00000099.ckpt", kind)
    assert_refused(path, ["verify", str(RUN)], capsys)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("policy", ["reset", "local"])
def test_replay_runs_nothing(policy: str, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    fit(CyclicalWeightTransfer(every_n_epochs=1, order=["a", "b"]), default_root_dir=RUN, max_epochs=3)
    config = yaml.safe_load((Path(__file__).parents[3] / "configs/phantom/cyclical.yaml").read_text())
    config["model"]["init_args"].update(backbone="slim_resnet18", backbone_kwargs={"width": 8})
    config["data"]["init_args"].update(patients=40, size=32)
    config["trainer"]["callbacks"][0]["init_args"].update(baton_dir="batons", optimizer_state=policy)
    (RUN / "config.yaml").write_text(yaml.safe_dump(config))
    path = malicious(RUN / "batons" / "visit_000001.baton", kind)
    if policy == "local":
        path = malicious(RUN / "batons" / "visit_000000.local", kind)
    assert_refused(path, ["verify", str(RUN), "--replay", "2"], capsys)


# -- as a program ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_program_runs_nothing() -> None:
    path = malicious(Path("evil.ckpt"))
    done = program.run("fit", *SMALL, "--ckpt_path", str(path))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    [told] = [line for line in done.stderr.splitlines() if line.startswith("lit-dist: ")]
    assert str(path) in told
    assert not RAN.exists()

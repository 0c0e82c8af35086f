"""``lit-dist fit --resume``."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from jsonargparse import dict_to_namespace

import program
from lit_dist import newest_checkpoint
from lit_dist.checkpoints.baton import fingerprint, read_checkpoint
from lit_dist.checkpoints.run_lock import held
from lit_dist.cli.main import main
from lit_dist.provenance.entry import Entry
from lit_dist.provenance.verify import verify
from lit_dist.runs.resume import claim_version

FIT = [
    "fit", "--config", "configs/phantom/cyclical.yaml", "--data.patients=40", "--data.size=32", "--data.sites=2",
    "--data.batch_size=8", "--model.backbone=slim_resnet18", "--model.backbone_kwargs={width: 8}",
    "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--trainer.log_every_n_steps=1",
    "--model.dropout=0.3",
]  # fmt: skip
RUN = Path("runs/phantom/cyclical/version_0")
pytestmark = pytest.mark.filterwarnings(
    "ignore:Checkpoint directory .* exists and is not empty",
    "ignore:You're resuming from a checkpoint that ended before",
    "ignore:Experiment logs directory .* exists and is not empty",
    "ignore:Precision bf16-mixed is not supported by the model summary",
)


def weights(run: Path = RUN) -> str:
    path = newest_checkpoint(run)
    assert path is not None
    return fingerprint(read_checkpoint(path)["state_dict"])[0]


@pytest.mark.slow
@pytest.mark.parametrize("settings", [[], ["--model.channels_last=true", "--trainer.precision=bf16-mixed"]])
def test_a_run_resumes_in_its_own_folder_and_equals_the_unbroken_one(
    settings: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    fit = [*FIT, *settings]
    main([*fit, "--trainer.max_epochs=6"])
    expected, rows, visits = weights(), (RUN / "metrics.csv").read_text(), (RUN / "ledger.jsonl").read_text()
    RUN.parent.rename("unbroken")

    main([*fit, "--trainer.max_epochs=2", "--resume"])
    assert "There is no checkpoint to resume from in any run; this is a new run." in caplog.text
    main([*fit, "--trainer.max_epochs=4", "--resume", "--data.num_workers=2"])
    main([*fit, "--trainer.max_epochs=6", "--resume"])
    assert [path.name for path in RUN.parent.iterdir()] == ["version_0"]
    assert weights() == expected
    assert (RUN / "metrics.csv").read_text() == rows
    assert len((RUN / "ledger.jsonl").read_text().splitlines()) == len(visits.splitlines()) == 6
    verify(RUN)
    config = yaml.safe_load((RUN / "config.yaml").read_text())
    assert (config["trainer"]["max_epochs"], config["resume"], config["ckpt_path"]) == (6, False, None)

    before = sorted(path.stat().st_mtime_ns for path in RUN.glob("checkpoints/*"))
    main([*fit, "--trainer.max_epochs=6", "--resume"])  # it has ended: nothing is to be done
    assert sorted(path.stat().st_mtime_ns for path in RUN.glob("checkpoints/*")) == before
    assert weights() == expected


@pytest.mark.slow
def test_a_test_and_a_prediction_between_do_not_hide_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    main([*FIT, "--trainer.max_epochs=2"])
    best = ["--config", str(RUN / "config.yaml"), "--ckpt_path", str(RUN / "checkpoints" / "best.ckpt")]
    main(["test", *best])
    main(["predict", *best])
    main([*FIT, "--trainer.max_epochs=4", "--resume"])
    assert len((RUN / "ledger.jsonl").read_text().splitlines()) == 4
    assert sorted(path.name for path in RUN.parent.iterdir()) == ["version_0", "version_1", "version_2"]
    rows = (RUN / "metrics.csv").read_bytes()
    with pytest.raises(SystemExit):
        main([*FIT, "--trainer.max_epochs=2", "--trainer.logger.version=version_0"])
    assert (
        "has the record of a run: resume it with --resume, or give the logger another version"
        in capsys.readouterr().err
    )
    assert (RUN / "metrics.csv").read_bytes() == rows


@pytest.mark.slow
def test_a_fit_that_failed_before_its_first_step_leaves_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*FIT, "--model.num_classes=5"])
    assert "set num_classes=2" in capsys.readouterr().err
    assert not RUN.exists()
    main([*FIT, "--trainer.max_epochs=2"])
    files = {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file() and path.name != "lock"}
    with pytest.raises(SystemExit):
        main([*FIT, "--model.num_classes=5", "--resume"])
    assert {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file() and path.name != "lock"} == files


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["test", *FIT[1:], "--resume"], "--resume is for fit; test takes --ckpt_path"),
        ([*FIT, "--resume", "--trainer.logger=true"], "--resume finds a run by the folder of its logger"),
        ([*FIT, "--ckpt_path=none.ckpt"], "there is no checkpoint at none.ckpt"),
    ],
)
def test_what_cannot_be_is_said(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [word for word in words if not word.startswith(("--model.backbone", "--model.dropout"))]
    with pytest.raises(SystemExit):
        main(words)
    assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two visits."""
    folder = tmp_path_factory.mktemp("two_visits")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main([*FIT, "--trainer.callbacks+=SiteEvaluation", "--trainer.max_epochs=2"])
    return folder


@pytest.fixture
def two_visits(whole: Path) -> None:
    """A copy of a run of two visits, in the working folder."""
    shutil.copytree(whole, ".", dirs_exist_ok=True)


def files() -> dict[Path, bytes]:
    return {
        path: path.read_bytes() for path in Path().rglob("*") if path.is_file() and not path.name.startswith("lock")
    }


def refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> str:
    """See that a command ends with one sentence, which is given, and changes nothing."""
    before = files()
    with pytest.raises(SystemExit) as end:
        main(words)
    said = capsys.readouterr().err
    assert end.value.code == 1
    assert message in said.replace("\n", " ")
    assert said.count("\n") <= 2
    assert files() == before
    return said


LONGER = [*FIT, "--trainer.callbacks+=SiteEvaluation", "--trainer.max_epochs=4", "--resume"]
DAMAGED: list[tuple[str, bytes | None, str]] = [
    ("ledger.jsonl", None, "ledger.jsonl is missing, and lacks the line that the checkpoint resumes after"),
    ("ledger.jsonl", b"", "ledger.jsonl is empty, and lacks the line that the checkpoint resumes after"),
    ("ledger.jsonl", b"\0" * 500, "ledger.jsonl is empty, and lacks the line that the checkpoint resumes after"),
    ("ledger.jsonl", b"time,event\n", "ledger.jsonl, line 1: "),
    ("ledger.jsonl", b"\x89PNG without an end", "ledger.jsonl is not a ledger; move it away"),
    ("config.yaml", b"", "config.yaml is not the configuration that lit-dist fit leaves (it needs model, trainer)"),
    ("config.yaml", b"[1, 2]", "config.yaml is not the configuration that lit-dist fit leaves"),
    ("config.yaml", b"a: [1", "config.yaml is not the configuration that lit-dist fit leaves ("),
    ("config.yaml", b"\xff\0", "config.yaml is not the configuration that lit-dist fit leaves ("),
    ("metrics.csv", b"", "metrics.csv is damaged: its first line does not name the columns"),
    ("metrics.csv", b"time,event\n1,2\n", "metrics.csv is damaged: its first line does not name the columns"),
    ("metrics.csv", b"\xff\0", "metrics.csv is damaged: 'utf-8'"),
    ("metrics.csv", b"step,loss,loss\n1,2,3\n", "metrics.csv is damaged: its first line names the column 'loss' twice"),
    ("metrics.csv", b"\xef\xbb\xbfepoch,step\n1,2\n", "names the column '\\ufeffepoch' twice, or after a byte order"),
    ("metrics.csv", b"epoch,step\n1,2\n", "metrics.csv is damaged: its first line lacks the column '"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("--model.optimizer.lr=0.1", "model.init_args.optimizer.init_args.lr is 0.1, but it was 0.001"),
        ("--data.batch_size=9", "data.init_args.batch_size is 9, but it was 8"),
        ("--seed_everything=5", "seed_everything is 5, but it was 0"),
        ("--trainer.accumulate_grad_batches=2", "trainer.accumulate_grad_batches is 2, but it was 1"),
    ],
)
@pytest.mark.usefixtures("two_visits")
def test_changed_settings_are_refused(change: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "leave --resume out" in refused([*LONGER, change], message, capsys)


@pytest.mark.parametrize(("name", "content", "message"), DAMAGED)
@pytest.mark.usefixtures("two_visits")
def test_a_damaged_record_is_said_and_left_as_it_is(
    name: str, content: bytes | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (RUN / name).unlink()
    if content is not None:
        (RUN / name).write_bytes(content)
    refused(LONGER, message, capsys)


@pytest.mark.usefixtures("two_visits")
def test_a_ledger_that_is_not_this_runs_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    path = RUN / "ledger.jsonl"
    first, second = path.read_text().splitlines(keepends=True)
    path.write_text(first)
    refused(LONGER, "ledger.jsonl lacks the line that the checkpoint resumes after", capsys)
    path.write_text(second)
    refused(LONGER, "ledger.jsonl is broken at visit 1 at 'site-2' (lit-dist verify", capsys)
    other = replace(Entry.parse(second[:-1]), previous=Entry.parse(second[:-1]).sha256, run="another")
    path.write_text(first + second + other.line + "\n")
    refused(LONGER, "ledger.jsonl has visits of another run ('another')", capsys)


@pytest.mark.parametrize(("content", "message"), [(b"\xff\0", "'utf-8'"), (b"", "it has 0 rows, and had 2 when")])
@pytest.mark.usefixtures("two_visits")
def test_a_damaged_matrix_is_said_and_left_as_it_is(
    content: bytes, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (RUN / "site_matrix.csv").write_bytes(content)
    with pytest.raises(SystemExit):
        main(LONGER)
    assert f"site_matrix.csv is damaged: {message}" in capsys.readouterr().err
    assert (RUN / "site_matrix.csv").read_bytes() == content


@pytest.mark.slow
@pytest.mark.usefixtures("two_visits")
def test_rows_that_are_gone_are_said_and_the_run_resumes() -> None:
    for name in ("metrics.csv", "config.yaml", "site_matrix.csv"):
        (RUN / name).unlink()
    with (RUN / "ledger.jsonl").open("a") as ledger:
        ledger.write('{"run": "')  # which the power cut
    with pytest.warns(UserWarning, match="is missing, so") as warned:
        main(LONGER)
    for name in ("metrics.csv", "config.yaml", "site_matrix.csv"):
        assert sum(f"{name} is missing, so" in str(warning.message) for warning in warned) == 1
    assert len((RUN / "metrics.csv").read_text().splitlines()) > 2
    assert (RUN / "config.yaml").exists()
    verify(RUN)


@pytest.mark.parametrize("words", [LONGER, [*FIT, "--trainer.logger.version=0"]])
@pytest.mark.usefixtures("two_visits")
def test_a_run_that_another_process_holds_is_left_alone(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with held(RUN):
        refused(words, f"version_0 is held by process {os.getpid()} on ", capsys)


def test_two_runs_that_begin_at_once_have_folders_of_their_own() -> None:
    settings = dict_to_namespace(
        {"trainer": {"logger": {"class_path": "CSVLogger", "init_args": {"save_dir": "runs"}}}}
    )
    taken = [claim_version(settings.clone()) for _ in range(3)]
    assert taken == [Path(f"runs/lightning_logs/version_{number}") for number in range(3)]
    assert all(folder.is_dir() for folder in taken if folder is not None)
    settings.trainer.logger.init_args.version = 0
    assert claim_version(settings) is None


def test_a_command_that_fails_leaves_no_folder() -> None:
    with pytest.raises(SystemExit):
        main([*FIT, "--trainer.max_epochs=2", "--data.batch_size=-1"])
    assert not list(Path("runs").rglob("version_*"))


@pytest.mark.slow
def test_a_run_without_loggers_is_found_in_its_folder() -> None:
    options = ["--trainer.logger=false", "--trainer.default_root_dir=here"]
    main([*FIT, *options, "--trainer.max_epochs=4"])
    expected = weights(Path("here"))
    options[1] = "--trainer.default_root_dir=there"
    main([*FIT, *options, "--trainer.max_epochs=2"])
    main([*FIT, *options, "--trainer.max_epochs=4", "--resume"])
    assert weights(Path("there")) == expected
    verify("there")


@pytest.mark.slow
def test_sigterm_ends_a_command_with_its_state_saved() -> None:
    words = [*FIT, "--trainer.max_epochs=8", "--resume"]
    process = program.start([*words, "--data.num_workers=1"], Path("output"))
    while process.is_alive() and not (RUN / "ledger.jsonl").exists():
        time.sleep(0.05)
    process.terminate()
    process.join(60)
    assert process.exitcode == 143, Path("output").read_text()
    assert "told to end (SIGTERM); the state is saved, and --resume continues from it" in Path("output").read_text()
    assert "Traceback" not in Path("output").read_text()
    done = len((RUN / "ledger.jsonl").read_text().splitlines())
    assert done < 8
    main(words)
    resumed = weights()
    RUN.parent.rename("interrupted")
    main(words)
    assert weights() == resumed

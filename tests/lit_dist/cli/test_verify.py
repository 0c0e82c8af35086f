"""``lit-dist verify`` and ``--replay``, on small runs of ``lit-dist fit`` and on copies that were tampered with."""

import hashlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

import program
from lit_dist.callbacks import CyclicalWeightTransfer, RunCheckpoint
from lit_dist.checkpoints.baton import fingerprint, read_checkpoint, write_checkpoint
from lit_dist.cli.main import main
from lit_dist.provenance.entry import Entry
from lit_dist.provenance.ledger import read_entries
from lit_dist.provenance.line import FIRST
from lit_dist.provenance.verify import verify
from lit_dist.runs.replay import replay
from lit_dist.utils.errors import InputError
from small import fit

FIT = [
    "fit", "--config", "configs/phantom/cyclical.yaml", "--config", "transfer.yaml", "--data.patients=40",
    "--data.sites=2", "--data.size=32", "--data.batch_size=8", "--model.backbone=slim_resnet18",
    "--model.backbone_kwargs={width: 8}",
    "--model.dropout=0.3", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
    "--trainer.accelerator=cpu", "--checkpoint.every_n_steps=1", "--checkpoint.keep=100",
]  # fmt: skip
TRANSFERS: dict[str, tuple[int, dict[str, Any]]] = {
    "reset": (4, {"every_n_epochs": 1}),
    "carry": (4, {"every_n_epochs": 1, "optimizer_state": "carry"}),
    "local": (4, {"every_n_epochs": 1, "optimizer_state": "local"}),
    "two epochs": (8, {"every_n_epochs": 2, "order": "shuffled"}),
    "steps": (2, {"every_n_steps": 3}),
    "steps, carry": (2, {"every_n_steps": 5, "optimizer_state": "carry"}),
    "steps, local": (2, {"every_n_steps": 3, "optimizer_state": "local"}),
}
"""For each run its epochs, which are four visits, and the settings of the transfer."""


class Runs:
    """Makes each run once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str, *callbacks: dict[str, Any]) -> Path:
        run = self.folder / "runs" / name / "version_0"
        if not run.exists():
            with pytest.MonkeyPatch.context() as patch:
                self._make(name, callbacks, patch)
        return run

    def _make(self, name: str, callbacks: tuple[dict[str, Any], ...], patch: pytest.MonkeyPatch) -> None:
        patch.chdir(self.folder)
        patch.setenv("PL_GLOBAL_SEED", "0")  # set by the fit, and to be as it was after it
        epochs, transfer = TRANSFERS.get(name, TRANSFERS["reset"])
        settings = {"validation": "cycle", "baton_dir": "batons", **transfer}
        all_callbacks = [{"class_path": "CyclicalWeightTransfer", "init_args": settings}, *callbacks]
        Path("transfer.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": all_callbacks}}))
        logger = ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=runs", f"--trainer.logger.name={name}"]
        main([*FIT, *logger, f"--trainer.max_epochs={epochs}"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("made"))


@pytest.fixture
def copy(runs: Runs, tmp_path: Path) -> Iterator[Path]:
    """A copy of a run, with its last two checkpoints, to be tampered with."""
    older = [path.name for path in saved(runs("reset"))[:-2]]
    yield Path(shutil.copytree(runs("reset"), tmp_path / "run", ignore=shutil.ignore_patterns("best.ckpt", *older)))
    shutil.rmtree(tmp_path / "run")


def saved(run: Path) -> list[Path]:
    return sorted((run / "checkpoints").glob("step_*.ckpt"))


def message(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The one line with which a command fails."""
    with pytest.raises(SystemExit) as exit_:
        main(["verify", *map(str, words)])
    assert exit_.value.code == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("lit-dist: ")
    return line


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# -- the ledger --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_whole_run_passes(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    run = runs("reset")
    capsys.readouterr()
    main(["verify", str(run)])
    assert capsys.readouterr().out.splitlines() == [
        f"{run}/ledger.jsonl: 4 visits of 1 run(s); the chain is whole.",
        f"{run}/checkpoints/step_00000016.ckpt belongs to it.",
    ]


@pytest.mark.parametrize("run", ["none", "."])
def test_a_missing_ledger_is_told(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no ledger at" in message(capsys, run)


def test_a_file_in_a_runs_folder_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    Path("ledger.jsonl").write_text("")
    assert "ledger.jsonl is a file; give the folder of its run" in message(capsys, "ledger.jsonl")


def chained(*entries: Entry) -> list[str]:
    """The lines of entries, with hashes that fit together."""
    head, lines = FIRST, []
    for entry in entries:
        lines.append(replace(entry, previous=head).line)
        head = Entry.parse(lines[-1]).sha256
    return lines


def lines_changed(lines: list[str], number: int, **values: Any) -> list[str]:
    entry = replace(Entry.parse(lines[number - 1]), **values)
    return [*lines[: number - 1], entry.line, *lines[number:]]


# Of each way in which `tests/lit_dist/provenance/test_audit.py` tampers with a ledger, one.
TAMPERINGS: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "changed": (
        lambda lines: [*lines[:1], lines[1].replace('"images": 28', '"images": 29'), *lines[2:]],
        "line 2: it was changed: its hash is another",
    ),
    "all changed with their hashes": (
        lambda lines: chained(*(replace(Entry.parse(line), images=29) for line in lines)),
        "lines are missing after line 4: a checkpoint was written after one that is not there",
    ),
    "other weights with their hashes": (
        lambda lines: chained(*map(Entry.parse, lines_changed(lines, 3, sha256_in="0" * 64))),
        "line 3 (visit 2 at 'site-1'): it began with the weights 000000000000, but visit 1 at 'site-2' had ended",
    ),
    "first missing": (lambda lines: lines[1:], "line 1 (visit 1 at 'site-2'): the ledger does not begin here"),
    "all missing": (lambda lines: [], "lines are missing after line 0: a checkpoint was written after one"),
    "doubled": (
        lambda lines: [*lines[:2], *lines[1:]],
        "line 3 (visit 1 at 'site-2'): it is there twice, first as line 2",
    ),
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_a_tampered_ledger_is_refused_by_its_line(
    tampering: str, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, told = TAMPERINGS[tampering]
    path = copy / "ledger.jsonl"
    path.write_text("".join(line + "\n" for line in change(path.read_text().splitlines())))
    before = contents(copy)
    assert f"lit-dist: {path}, {told}" in message(capsys, copy)
    assert contents(copy) == before


def test_a_line_cut_short_is_refused(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy / "ledger.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert message(capsys, copy).startswith(f"lit-dist: {path}, line 4: it is cut short")


# -- the checkpoint ----------------------------------------------------------------------------------------------------


def record(checkpoint: dict[str, Any]) -> dict[str, Any]:
    return next(state["record"] for state in checkpoint["callbacks"].values() if "record" in state)


def test_each_checkpoint_of_a_run_belongs_to_its_ledger(runs: Runs, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(runs("reset"), tmp_path / "run", ignore=shutil.ignore_patterns("best.ckpt", "batons")))
    assert len(saved(copy)) == 16
    for path in reversed(saved(copy)):
        assert f"{path} belongs to it." in verify(copy)
        path.unlink()
    assert "There is no checkpoint, so lines that were cut off its end would not be noticed." in verify(copy)


def test_an_older_checkpoint_notices_what_is_missing_before_it(copy: Path, runs: Runs) -> None:
    for path in saved(copy):
        path.unlink()
    shutil.copy(saved(runs("reset"))[9], copy / "checkpoints")  # two of visit 2's steps were done
    ledger = copy / "ledger.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    ledger.write_text("".join(lines[:2]))
    verify(copy)
    ledger.write_text("".join(lines[:1]))
    with pytest.raises(InputError, match="lines are missing after line 1"):
        verify(copy)


@pytest.mark.parametrize("dtype", ["float", "int"])
def test_a_checkpoint_with_other_weights_is_refused(dtype: str, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(copy)[-1]
    checkpoint = read_checkpoint(path)
    name = "backbone.fc.bias" if dtype == "float" else "backbone.bn1.num_batches_tracked"
    checkpoint["state_dict"][name] += 1
    write_checkpoint(checkpoint, path)
    assert f"{path} does not have the weights that visit 3 at 'site-2' ended with" in message(capsys, copy)


def test_a_checkpoint_with_other_weights_and_another_account_of_them_is_refused(copy: Path) -> None:
    path = saved(copy)[-1]
    checkpoint = read_checkpoint(path)
    checkpoint["state_dict"]["backbone.fc.bias"] += 1
    record(checkpoint)["sha256_out"] = fingerprint(checkpoint["state_dict"])[0]
    write_checkpoint(checkpoint, path)
    with pytest.raises(InputError, match="does not have the weights"):
        verify(copy)


@pytest.mark.parametrize("damage", ["bit", "cut", "emptied", "pipe", "folder", "link to nowhere"])
def test_a_newest_checkpoint_that_is_damaged_is_named_though_there_is_an_older_one(
    copy: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(copy)[-1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    if damage in ("pipe", "folder"):
        (os.mkfifo if damage == "pipe" else os.mkdir)(path)
    elif damage == "link to nowhere":
        path.symlink_to("nowhere")
    else:
        path.write_bytes({"bit": content, "cut": content[:-1], "emptied": b""}[damage])
    assert message(capsys, copy).startswith(f"lit-dist: the newest checkpoint of {copy} cannot be used")
    path.rmdir() if damage == "folder" else path.unlink()
    assert "belongs to it." in verify(copy)


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_a_run_that_was_told_to_end_in_a_validation_passes(epoch: int) -> None:
    class Told(Callback):
        def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if trainer.current_epoch == epoch:
                signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SIGTERMException):
        fit(CyclicalWeightTransfer(every_n_epochs=1), Told(), RunCheckpoint())
    assert "belongs to it." in verify(".")


@pytest.mark.parametrize("content", [{"optimizer_states": []}, {"state_dict": {}}, {"callbacks": {}}])
def test_a_checkpoint_of_another_kind_is_refused(content: dict[str, Any], copy: Path) -> None:
    write_checkpoint(content, saved(copy)[-1])
    with pytest.raises(InputError, match="checkpoint"):
        verify(copy)


# -- replay ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reset", *(pytest.param(name, marks=pytest.mark.slow) for name in [*TRANSFERS][1:])])
def test_each_visit_repeats(name: str, runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    run = runs(name)
    before = contents(run)
    entries = read_entries(run / "ledger.jsonl")
    assert len({entry.sha256_out for entry in entries}) == len(entries) == 4
    for visit, entry in enumerate(entries) if name == "reset" else ((1, entries[1]), (3, entries[3])):
        main(["verify", str(run), "--replay", str(visit)])
        told = f"Visit {visit} at '{entry.site}', trained again, ended with the same weights: {entry.sha256_out}"
        assert capsys.readouterr().out.splitlines()[-1] == told
    assert contents(run) == before
    assert {path.name for path in Path().iterdir()} <= {"cache"}  # which the phantoms are kept in


@pytest.mark.slow
def test_a_visit_repeats_with_what_travelled_and_what_had_stayed(runs: Runs) -> None:
    run = runs("scaffold", {"class_path": "scaffold.Scaffold"})
    last = read_entries(run / "ledger.jsonl")[-1]
    assert last.cycle > 0, "something had stayed at its site"
    assert last.sha256_out in replay(run, last.visit)


def reconfigure(run: Path, names: str, value: Any) -> None:
    path = run / "config.yaml"
    config = yaml.safe_load(path.read_text())
    *parents, last = names.split(".")
    place = config
    for name in parents:
        place = place[int(name) if name.isdigit() else name]
    assert place[last] != value
    place[last] = value
    path.write_text(yaml.safe_dump(config))


DATA = "(programs and settings are the same, so the data or the hardware are not)"
SETTINGS = "(the settings are others)"


@pytest.mark.parametrize(
    ("visit", "name", "value", "told"),
    [
        (2, "data.init_args.split_seed", 1, DATA),
        (0, "data.init_args.seed", 1, DATA),
        (1, "data.init_args.batch_size", 7, DATA),
        (0, "model.init_args.optimizer.init_args.lr", 0.002, SETTINGS),
        (0, "model.init_args.optimizer.init_args.weight_decay", 0.1, SETTINGS),
        (2, "model.init_args.dropout", 0.2, SETTINGS),
        (2, "trainer.accumulate_grad_batches", 2, SETTINGS),
        (2, "seed_everything", 1, SETTINGS),
        (3, "trainer.callbacks.0.init_args.seed", 5, SETTINGS),
    ],
)
def test_what_has_changed_is_noticed(
    visit: int, name: str, value: Any, told: str, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reconfigure(copy, name, value)
    shown = message(capsys, copy, "--replay", str(visit))
    entry = read_entries(copy / "ledger.jsonl")[visit]
    assert f"visit {visit} at '{entry.site}' does not repeat: it ended with the weights " in shown
    assert shown.endswith(f"and with {entry.sha256_out[:12]} in the ledger {told}")


def test_another_rate_is_noticed_in_a_later_visit(copy: Path) -> None:
    reconfigure(copy, "model.init_args.optimizer.init_args.lr", 0.1)
    with pytest.raises(InputError, match="the settings are others"):
        replay(copy, 2)


def test_other_programs_are_named(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reconfigure(copy, "data.init_args.split_seed", 1)
    entry = read_entries(copy / "ledger.jsonl")[0]
    monkeypatch.setattr("lit_dist.runs.replay.versions", lambda: {**entry.versions, "torch": "0.1", "threads": "64"})
    with pytest.raises(
        InputError, match=rf"\(torch was {entry.versions['torch']} and is 0.1, threads was 1 and is 64\)"
    ):
        replay(copy, 0)


@pytest.mark.parametrize("visit", [4, 99, -1])
def test_a_visit_that_does_not_exist_is_told(visit: int, copy: Path) -> None:
    with pytest.raises(InputError, match=f"has no visit {visit} that was trained in one piece"):
        replay(copy, visit)


@pytest.mark.parametrize("outcome", ["cut short", "diverged", "skipped", "absent"])
def test_a_visit_that_was_not_trained_to_its_end_is_told(outcome: Any, copy: Path) -> None:
    path = copy / "ledger.jsonl"
    lines = lines_changed(path.read_text().splitlines(), 4, outcome=outcome)
    path.write_text("".join(line + "\n" for line in lines))
    with pytest.raises(InputError, match="has no visit 3 that was trained in one piece"):
        replay(copy, 3)


def test_the_ledger_is_verified_first(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy / "ledger.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    assert "lines are missing after line 3" in message(capsys, copy, "--replay", "0")


def test_a_missing_baton_is_told(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "batons" / "visit_000001.baton").unlink()
    told = f"there is no baton of visit 1 in {copy}/batons; a run with baton_dir keeps them"
    assert told in message(capsys, copy, "--replay", "2")
    reconfigure(copy, "trainer.callbacks.0.init_args.baton_dir", None)
    assert "there is no baton of visit 2 in" in message(capsys, copy, "--replay", "3")
    shutil.rmtree(copy / "batons")
    main(["verify", str(copy), "--replay", "0"])


def test_without_a_configuration_or_a_transfer_nothing_is_repeated(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reconfigure(copy, "trainer.callbacks", [])
    assert "config.yaml has no transfer callback, so there are no visits" in message(capsys, copy, "--replay", "1")
    (copy / "config.yaml").unlink()
    assert "config.yaml; only a run of lit-dist fit can be repeated" in message(capsys, copy, "--replay", "1")


@pytest.mark.parametrize("text", ["", "garbage", "a: [1", "model: 1"])
def test_a_damaged_configuration_is_told(text: str, copy: Path) -> None:
    (copy / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=r"config\.yaml"):
        replay(copy, 1)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip, cut, empty])
def test_a_damaged_baton_is_refused(
    damage: Callable[[Path], None], copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / "batons" / "visit_000001.baton"
    damage(path)
    shown = message(capsys, copy, "--replay", "2")
    assert f"{path} is damaged" in shown or f"{path} is not a file that lit_dist wrote" in shown


@pytest.mark.slow
@pytest.mark.parametrize("damage", [flip, cut, empty, Path.unlink])
def test_a_damaged_state_of_a_site_is_refused(
    damage: Callable[[Path], None], runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(runs("local"), tmp_path / "local"))
    names = {f"visit_00000{visit}.{kind}" for visit in range(4) for kind in ("baton", "local")}
    assert {path.name for path in (copy / "batons").iterdir()} == names
    damage(copy / "batons" / "visit_000000.local")
    capsys.readouterr()
    assert f"{copy}/batons/visit_000000.local " in message(capsys, copy, "--replay", "2")
    main(["verify", str(copy), "--replay", "3"])


def test_a_whole_baton_with_other_weights_or_of_another_visit_is_refused(copy: Path) -> None:
    path = copy / "batons" / "visit_000001.baton"
    baton = read_checkpoint(path)
    baton["state_dict"]["backbone.fc.bias"] += 1
    write_checkpoint(baton, path)
    with pytest.raises(InputError, match="visit_000001"):
        replay(copy, 2)
    shutil.copy(copy / "batons" / "visit_000002.baton", path)
    with pytest.raises(InputError, match="visit_000001"):
        replay(copy, 2)


@pytest.mark.slow
def test_a_best_model_outside_of_the_run_stays_as_it_is_and_other_callbacks_find_their_logger(
    runs: Runs, tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    arguments = {"monitor": "val_loss", "dirpath": str(folder), "filename": "best", "enable_version_counter": False}
    best = {"class_path": "ModelCheckpoint", "init_args": arguments}
    run = runs("kept elsewhere", best, {"class_path": "LearningRateMonitor"})
    before = contents(folder)
    assert before
    assert "the same weights" in replay(run, 1)
    assert contents(folder) == before


# -- as a program ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_program_says_what_is_in_order_and_what_is_not(copy: Path) -> None:
    done = program.run("verify", copy)
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 visits of 1 run(s); the chain is whole." in done.stdout
    path = copy / "ledger.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    done = program.run("verify", copy)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"lit-dist: {path}, line 1 (visit 1 at 'site-2'): the ledger does not begin here")


@pytest.mark.slow
def test_the_program_repeats_a_visit_and_warns_of_nothing(copy: Path) -> None:
    done = program.run("verify", copy, "--replay", "2")
    assert done.returncode == 0, done.stderr
    assert "Visit 2 at 'site-1', trained again, ended with the same weights: " in done.stdout
    assert "Traceback" not in done.stderr
    assert "LightningCLI's args parameter is intended" not in done.stderr

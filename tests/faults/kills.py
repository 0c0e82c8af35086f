"""Kills runs at random moments, resumes each until its end, and compares it with one that was never interrupted.

    export PYTHONPATH=tests/helpers
    python tests/faults/kills.py                       # 30 kills of each variant, on real photographs where they are
    python tests/faults/kills.py --kills 6 --only steps ddp central study

Every other kill waits until a checkpoint is being written. The whole process group gets SIGKILL: no clean-up runs.
"""

import argparse
import csv
import difflib
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import program
from lit_dist import newest_checkpoint
from lit_dist.checkpoints.baton import fingerprint, read_checkpoint
from lit_dist.provenance.ledger import read_entries
from lit_dist.provenance.verify import verify

TRANSFER = "{every_n_epochs: 1, validation: cycle, %s}"
VARIANTS = {
    "reset": TRANSFER % "optimizer_state: reset",
    "carry": TRANSFER % "optimizer_state: carry",
    "local": TRANSFER % "optimizer_state: local, order: shuffled",
    "no_repeat": "{every_n_epochs: 2, order: no_repeat, validation: cycle}",
    "steps": "{every_n_steps: 5, order: shuffled, optimizer_state: carry}",
    "swt": "{monitor: val_loss, patience: 1, max_epochs_per_site: 4}",
    "ddp": TRANSFER % "optimizer_state: carry",
}
"""The transfer callback's settings."""

ALONE = {"central": "centralized: true", "only_site": "only_site: site-1"}
"""Runs without a transfer callback: the data's settings."""

STUDY = """
collection: kills
passes: 6
heuristics: [central, single, ensemble, cyclical_weight_transfer]
every_n_epochs: [1]
seeds: [0]
jobs: 2
model:
  class_path: ImageClassifier
  init_args: {backbone: slim_resnet18, backbone_kwargs: {width: 8}, dropout: 0.3}
data:
  class_path: PhantomDataModule
  init_args: {sites: 2, patients: 60, size: 32, batch_size: 6, num_workers: 2, augmentation: {class_path: Augmentation}}
trainer: {accelerator: cpu, enable_progress_bar: false, enable_model_summary: false}
"""

CONFIG = """
seed_everything: 3
model:
  class_path: ImageClassifier
  init_args:
    backbone: slim_resnet18
    backbone_kwargs: {{width: 8}}
    num_classes: 2
    dropout: 0.3
    optimizer: {{class_path: torch.optim.Adam, init_args: {{lr: 0.001}}}}
    lr_scheduler: {{class_path: torch.optim.lr_scheduler.CosineAnnealingLR, init_args: {{T_max: 24}}}}
data: {data}
trainer:
  max_epochs: {epochs}
  accelerator: cpu
  devices: {devices}
  strategy: {strategy}
  limit_train_batches: 8
  log_every_n_steps: 1
  enable_progress_bar: false
  enable_model_summary: false
  logger: {{class_path: CSVLogger, init_args: {{save_dir: runs, name: kills}}}}
  callbacks:
{transfer}\
    - {{class_path: ModelCheckpoint, init_args: {{monitor: val_loss, filename: best, enable_version_counter: false}}}}
    - {{class_path: EarlyStopping, init_args: {{monitor: val_loss, patience: 50}}}}
checkpoint: {{every_n_steps: 3}}
"""


@dataclass
class Outcome:
    """What a run left: all that must not depend on interruptions."""

    sha256: str = ""
    visits: list[tuple[int, str, str, str]] = field(default_factory=list)
    metrics: str = ""
    best: str = ""
    table: str = ""
    kills: int = 0
    while_writing: int = 0
    starts: list[str] = field(default_factory=list)


def config(variant: str, photographs: Path | None) -> str:
    """The configuration of a variant."""
    if photographs is not None:
        data = f"{{class_path: FundusDataModule, init_args: {{root: {photographs}, task: referable, sites: 3, size: 64,"
    else:
        data = "{class_path: PhantomDataModule, init_args: {patients: 96, sites: 3, size: 32,"
    if variant in ALONE:
        data += f" {ALONE[variant]},"
    ddp = variant == "ddp"
    workers = (
        0 if ddp else 2 if photographs else 1
    )  # a process that speaks gloo may hang when it forks, with plain Lightning too
    augmented = f"augmentation: {{class_path: Augmentation}}, batch_size: 8, num_workers: {workers}}}}}"
    kind = "SingleWeightTransfer" if variant == "swt" else "CyclicalWeightTransfer"
    transfer = "" if variant in ALONE else f"    - {{class_path: {kind}, init_args: {VARIANTS[variant]}}}\n"
    return CONFIG.format(
        data=f"{data} {augmented}", transfer=transfer, epochs={"steps": 3, "central": 4}.get(variant, 12),
        devices=2 if ddp else 1, strategy="ddp" if ddp else "auto",
    )  # fmt: skip


def start(folder: Path, *options: str, command: str = "fit") -> BaseProcess:
    """Start a command in a process group of its own."""
    words = [command, "--config", "config.yaml", *options]
    return program.start(words, folder / "output.txt", folder=folder)


def finished(process: BaseProcess, folder: Path) -> None:
    """Wait for the end of a process.

    Raises:
        RuntimeError: If it failed. (Torch's gloo now and then aborts a process that is done, with plain Lightning too.)
    """
    process.join()
    output = (folder / "output.txt").read_text()
    done = "`Trainer.fit` stopped" in output and "terminate called without an active exception" in output[-100:]
    if process.exitcode and not done:
        raise RuntimeError(f"exit {process.exitcode}\n{output[-3000:]}")


def kill(process: BaseProcess) -> None:
    """Kill a process and its children at once."""
    assert process.pid is not None
    while process.is_alive() and os.getpgid(process.pid) != process.pid:
        time.sleep(0.001)  # it has hardly begun
    os.killpg(process.pid, signal.SIGKILL)
    process.join()


def run_folder(folder: Path) -> Path:
    """The newest run: one that is killed before its first checkpoint is begun anew, in a folder of its own."""
    return max((folder / "runs" / "kills").glob("version_*"), key=lambda path: int(path.name[8:]), default=folder)


def outcome(folder: Path) -> Outcome:
    """Read what a finished run left, and verify its ledger."""
    run = run_folder(folder)
    entries = []
    if (run / "ledger.jsonl").exists():
        verify(run)
        entries = read_entries(run / "ledger.jsonl")
    visits = [(entry.visit, entry.site, entry.sha256_in, entry.sha256_out) for entry in entries]
    best = sorted((run / "checkpoints").glob("best*.ckpt"))
    newest = newest_checkpoint(run)
    assert newest is not None
    return Outcome(
        sha256=fingerprint(read_checkpoint(newest)["state_dict"])[0],
        visits=visits,
        metrics=(run / "metrics.csv").read_text(),
        best=fingerprint(read_checkpoint(best[0])["state_dict"])[0],
    )


def wait_for(process: BaseProcess, folder: Path, chance: random.Random, writing: bool) -> bool:
    """Wait for a random moment within the next visits; with ``writing``, for the writing of a checkpoint after it.

    Returns:
        Whether one was being written.
    """
    until = lines(folder) + chance.randint(0, 3)
    while process.is_alive() and lines(folder) < until:
        time.sleep(0.01)
    until_then = time.monotonic() + chance.uniform(0, 2 if until == 0 else 1)
    while process.is_alive() and time.monotonic() < until_then:
        time.sleep(0.01)
    while writing and process.is_alive():
        if any((folder / "runs").glob("kills/version_*/checkpoints/.*.partial")):
            return True
        time.sleep(0.0005)
    return False


def lines(folder: Path) -> int:
    """The number of visits on record, or of epochs in the newest checkpoint."""
    ledger = run_folder(folder) / "ledger.jsonl"
    steps = [int(path.stem[5:]) for path in (run_folder(folder) / "checkpoints").glob("step_*.ckpt")]
    return ledger.read_bytes().count(b"\n") if ledger.exists() else max(steps, default=0) // 8


def interrupted(folder: Path, kills: int, chance: random.Random) -> Outcome:
    """Run to the end, with so many kills on the way."""
    done = while_writing = 0
    starts = []
    while True:
        process = start(folder, "--resume")
        hit = done < kills and wait_for(process, folder, chance, done % 2 == 1)
        if done >= kills or not process.is_alive():
            finished(process, folder)
            break
        kill(process)
        done += 1
        while_writing += hit
        newest = newest_checkpoint(run_folder(folder))
        starts.append(newest.stem if newest else "nothing")
    result = outcome(folder)
    result.kills, result.while_writing, result.starts = done, while_writing, starts
    return result


def trial(
    variant: str, kills: int, folder: Path, photographs: Path | None, chance: random.Random, each: int = 6
) -> Iterator[Outcome]:
    """Compare interrupted runs with an unbroken one, until there were so many kills.

    Yields:
        Each interrupted run's outcome.

    Raises:
        AssertionError: If one differs.
    """
    unbroken = folder / "unbroken"
    unbroken.mkdir(parents=True)
    (unbroken / "config.yaml").write_text(config(variant, photographs))
    finished(start(unbroken), unbroken)
    expected = outcome(unbroken)
    done = number = 0
    while done < kills:
        here = folder / f"run_{number}"
        here.mkdir()
        shutil.copy(unbroken / "config.yaml", here)
        got = interrupted(here, min(each, kills - done), chance)
        for what in ("sha256", "visits", "best", "metrics"):
            ours, theirs = str(getattr(got, what)), str(getattr(expected, what))
            difference = "\n".join(list(difflib.unified_diff(theirs.splitlines(), ours.splitlines()))[:20])
            assert ours == theirs, f"{variant}: another {what}, resumed from {got.starts}\n{difference}"
        done, number = done + got.kills, number + 1
        yield got


def study(kills: int, folder: Path, chance: random.Random, each: int = 4) -> Iterator[Outcome]:
    """Compare studies that are killed and repeated with an unbroken one, until there were so many kills.

    Yields:
        Each interrupted study's outcome.

    Raises:
        AssertionError: If one differs.
    """

    def one(name: str, kills: int, seconds: float) -> Outcome:
        here = folder / name
        here.mkdir(parents=True)
        (here / "config.yaml").write_text(STUDY)
        got = Outcome()
        while got.kills < kills:
            process = start(here, command="compare")
            process.join(chance.uniform(0, seconds))
            if not process.is_alive():
                break
            kill(process)
            got.kills += 1
            got.starts.append(f"{len(list(here.glob('studies/kills/runs/*/result.json')))} runs")
        process = start(here, command="compare")
        process.join()
        assert process.exitcode == 0, (here / "output.txt").read_text()[-3000:]
        with (here / "studies" / "kills" / "results.csv").open() as file:
            rows = [{name: row[name] for name in row if name != "seconds"} for row in csv.DictReader(file)]
        predictions = sorted((here / "studies" / "kills" / "runs").glob("*/fit/predictions.csv"))
        got.table = "\n".join([*map(str, rows), *(path.read_text() for path in predictions)])
        return got

    began = time.monotonic()
    expected, done, number = one("unbroken", 0, 0.0), 0, 0
    seconds = (time.monotonic() - began) / 2
    while done < kills:
        got = one(f"study_{number}", min(each, kills - done), seconds)
        difference = "\n".join(list(difflib.unified_diff(expected.table.splitlines(), got.table.splitlines()))[:20])
        assert got.table == expected.table, f"another study, killed with {got.starts}\n{difference}"
        done, number = done + got.kills, number + 1
        yield got


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    every = [*VARIANTS, *ALONE, "study"]
    parser.add_argument("--only", nargs="*", default=every, choices=every)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    photographs = Path(os.environ.get("LIT_DIST_DATA", "../shared/data")).resolve() / "fundus_eyepacs_400"
    os.environ.update(OMP_NUM_THREADS="1", WANDB_MODE="disabled")
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("XDG_CACHE_HOME", f"{folder}/cache")
        for variant in options.only:
            kills = while_writing = runs = 0
            there = photographs if photographs.exists() else None
            chance, here = random.Random(options.seed), Path(folder) / variant
            trials = (
                study(options.kills, here, chance)
                if variant == "study"
                else trial(variant, options.kills, here, there, chance)
            )
            for got in trials:
                kills, while_writing, runs = kills + got.kills, while_writing + got.while_writing, runs + 1
                print(variant, "equal after kills; resumed from:", ", ".join(got.starts), flush=True)
            print(f"{variant}: {kills} kills in {runs} runs, {while_writing} while a checkpoint was written: all equal")


if __name__ == "__main__":
    main()

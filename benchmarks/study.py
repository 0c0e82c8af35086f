"""What a run of a study costs beyond its training, in seconds of the processor.

python benchmarks/study.py --runs 6
"""

import argparse
import contextlib
import functools
import gc
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness

STUDY = Path("studies/phantom")


def plan(runs: int) -> list[str]:
    """Plan a study of central with so many seeds in the working folder, and name its runs."""
    from lit_dist.cli.main import main

    small = ["--passes=2", "--data.patients=80", "--data.size=32", "--model.backbone_kwargs={width: 8}"]
    seeds = ["--heuristics=[central]", f"--seeds={list(range(runs))}", "--trainer.accelerator=cpu"]
    with contextlib.redirect_stdout(io.StringIO()):
        main(["compare", "--config", "configs/phantom/compare.yaml", *small, *seeds, "--print-commands"])
    return sorted(path.name for path in (STUDY / "runs").iterdir())


def do_run(name: str) -> None:
    """Do a run as a study does, and write how long its process took, and of it the training and the test."""
    from lightning.pytorch import Trainer

    from lit_dist.study.execute import execute

    gc.freeze()  # as a study's processes do
    training = [0.0]

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*given: Any, **named: Any) -> Any:
            start = time.process_time()
            try:
                return method(*given, **named)
            finally:
                training[0] += time.process_time() - start

        return call

    for each in ("fit", "predict"):
        setattr(Trainer, each, timed(getattr(Trainer, each)))
    with contextlib.redirect_stdout(io.StringIO()):
        execute(STUDY, name)
    Path(f"{name}.json").write_text(json.dumps([time.process_time(), training[0]]))


def main() -> None:
    """Do the runs one after another, each in a process as a study makes it, and write the table."""
    from lit_dist.utils.child_processes import prepared

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=6)
    options = parser.parse_args()
    before = harness.machine()
    processes = prepared("lit_dist.study.execute")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        names = plan(options.runs)
        for name in names:
            process = processes.Process(target=do_run, args=(name,))
            process.start()
            process.join()
        found = [json.loads(Path(f"{name}.json").read_text()) for name in names]
    whole, training = zip(*found, strict=True)
    beyond = [one - own for one, own in found]
    rows = [["seconds of the processor", "a run"], ["its process", harness.spread(whole)]]
    rows += [["training and test in it", harness.spread(training)], ["beyond them", harness.spread(beyond)]]
    harness.write("study", {"whole": whole, "training": training}, rows, before)


if __name__ == "__main__":
    main()

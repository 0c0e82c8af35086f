"""What a run of a study costs beyond its training: a study of many runs, beside the same fits in one process.

python benchmarks/study.py --repeats 3
"""

import argparse
import contextlib
import functools
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
from harness import Facts, Way

FEW, MANY = 2, 10
STUDY, FITS = "study", "fits"


def words(runs: int) -> list[str]:
    """Those of a study of central with so many seeds."""
    small = [
        "--passes=2",
        "--data.patients=80",
        "--data.size=32",
        "--data.batch_size=8",
        "--model.backbone_kwargs={width: 8}",
    ]
    seeds = ["--heuristics=[central]", f"--seeds={list(range(runs))}", "--jobs=1", "--trainer.accelerator=cpu"]
    return ["compare", "--config", "configs/phantom/compare.yaml", *small, *seeds]


def do_study(runs: int) -> Facts:
    """Do a study."""
    from lit_dist.cli.main import main

    main(words(runs))
    return {}


def do_fits(runs: int) -> Facts:
    """Train and test the runs of a study one after another in this process; of all but the first, the mean seconds."""
    from lightning.pytorch import Trainer

    from lit_dist.cli.main import main
    from lit_dist.study.execute import execute

    main([*words(runs), "--print-commands"])
    seconds = [0.0]

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*given: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return method(*given, **named)
            finally:
                seconds[-1] += time.perf_counter() - start

        return call

    for name in ("fit", "predict"):
        setattr(Trainer, name, timed(getattr(Trainer, name)))
    study = Path("studies/phantom")
    for run in sorted(path.name for path in (study / "runs").iterdir()):
        seconds.append(0.0)
        execute(study, run)
    return {"training": sum(seconds[2:]) / (runs - 1)}


def main() -> None:
    """Do all in turns and write the table, or do one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs=2, metavar=("WHAT", "RUNS"))
    options = parser.parse_args()
    if options.only:
        do = {STUDY: do_study, FITS: do_fits}[options.only[0]]
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.chdir(folder),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            found = do(int(options.only[1]))
        print(json.dumps(found))
        return
    before = harness.machine()
    told = {f"a study of {FEW} runs": (STUDY, FEW), f"a study of {MANY} runs": (STUDY, MANY), "fits": (FITS, MANY)}
    ways = [Way(name, [sys.executable, __file__, "--only", what, str(runs)]) for name, (what, runs) in told.items()]
    found = harness.in_turns(ways, options.repeats)
    few, many, fits = found.values()
    a_run = [(more["whole"] - less["whole"]) / (MANY - FEW) for less, more in zip(few, many, strict=True)]
    training = [run["training"] for run in fits]
    beyond = [whole - own for whole, own in zip(a_run, training, strict=True)]
    rows = [["seconds a run", ""]]
    for name, values in (("of a study", a_run), ("training and test alone", training), ("beyond them", beyond)):
        rows.append([name, harness.spread(values)])
    harness.write("study", found, rows, before)


if __name__ == "__main__":
    main()

"""How long a round of federated averaging takes, beside one visit: its sites are to train at the same time.

    python benchmarks/rounds.py --sites 4 --seconds 2
    python benchmarks/rounds.py --sites 4 --seconds 2 --ring 2            # two rings of two sites side by side
    python benchmarks/rounds.py --sites 4 --seconds 2 --average_every 3   # daisy chains of three visits

A FLARE system of a server and sites of equal size runs on this machine, each a process of its own. Two cores cannot do
four sites' work, so a step waits instead of computing. A visit's seconds are those of its line in the ledger; a round's
are from the question for its first visit to the answer of its last, and to the first question of the next round. The
first round, in which the sites open their data, is left out. It needs the extra ``nvflare``.
"""

import argparse
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import harness
from harness import Facts
from lit_dist.checkpoints.run_folder import LEDGER
from lit_dist.cli.federate import parse
from lit_dist.federation.flare.engine import write_job
from lit_dist.federation.flare.local import ADMIN, LocalSystem
from lit_dist.federation.flare.session import connect, make_job
from lit_dist.provenance.ledger import read_entries

MODULE = "programs.waiting.Waiting"


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of a run of so many rounds."""
    words = ["--model", MODULE, "--model.seconds", str(options.seconds), "--data", "PhantomDataModule"]
    words += ["--data.sites", str(options.sites), "--data.patients", "24", "--data.size", "32"]
    words += ["--data.batch_size", "5", "--trainer.limit_val_batches", "0"]
    chain = options.average_every > 1
    kind, name = ("DaisyChaining", "average_every") if chain else ("FederatedAveraging", "ring")
    words += ["--trainer.callbacks", kind, "--trainer.callbacks.every_n_steps", str(options.steps)]
    words += [f"--trainer.callbacks.{name}", str(options.average_every if chain else options.ring)]
    words += ["--trainer.max_epochs", str(options.rounds), "--trainer.logger", "CSVLogger"]
    words += ["--trainer.logger.save_dir", "runs", "--trainer.accelerator", "cpu"]
    return parse([*words, "--trainer.enable_progress_bar", "false"])


def federated(run: dict[str, Any], sites: list[str], folder: Path) -> Facts:
    """Make a run over a server and its sites: when each visit was asked for, how long that took, and the visit."""
    data = run["data"]
    of_site = {site: {**data, "init_args": {**data["init_args"], "only_site": site}} for site in sites}
    own = {site: {"data": of_site[site], "metrics": "all", "classes": [MODULE]} for site in sites}
    paths = [str(harness.ROOT), str(harness.ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    with LocalSystem(folder / "system", own, {"classes": [MODULE], "runs": str(folder)}) as system:
        session = connect(system.kits / ADMIN, ADMIN, 120, system.check)
        write_job(folder / "job", run, sites, sites, {"timeout": 3600})
        report = make_job(session, folder / "job", system.check)
        session.close()
    if "error" in report:
        raise SystemExit(report["error"])
    asked = sorted((each for each in report["asked"] if each["question"] == "train"), key=lambda each: each["start"])
    return {"asked": asked, "visits": [entry.seconds for entry in read_entries(Path(report["run"]) / LEDGER)]}


def measure(found: Facts, of_round: int) -> dict[str, list[float]]:
    """Each round after the first, in visits: until the last answer, and until the next round begins."""
    asked, visits = found["asked"], found["visits"]
    rounds = [asked[first : first + of_round] for first in range(0, len(asked), of_round)]
    starts = [round_[0]["start"] for round_ in rounds]
    longest = [statistics.median(visits[first : first + of_round]) for first in range(0, len(visits), of_round)]
    ends = [max(each["start"] + each["seconds"] for each in round_) for round_ in rounds]
    return {
        "answers": [(end - start) / visit for start, end, visit in zip(starts, ends, longest, strict=True)][1:],
        "whole": [
            (after - start) / visit for start, after, visit in zip(starts[1:], starts[2:], longest[1:], strict=False)
        ],
    }


def main() -> None:
    """Parse the options, measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5, help="of a visit")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a step")
    parser.add_argument("--ring", type=int, default=1, help="sites of a ring, one after another")
    parser.add_argument("--average_every", type=int, default=1, help="visits of each model in a daisy chain")
    options = parser.parse_args()
    before = harness.machine()
    sites = [f"site-{number + 1}" for number in range(options.sites)]
    with tempfile.TemporaryDirectory() as folder:
        found = federated(settings(options), sites, Path(folder))
    times = measure(found, options.sites * options.average_every)
    following = options.ring * options.average_every  # visits that wait for each other
    table = [
        ["", "one after another", "a round's answers, in visits", "to the next round, in visits", "seconds of a visit"],
        [
            f"{options.sites} sites", str(following), *(harness.spread(times[name]) for name in ("answers", "whole")),
            harness.spread(found["visits"][options.sites * options.average_every :]),
        ],
    ]  # fmt: skip
    harness.write("rounds", {**found, **times}, table, before)


if __name__ == "__main__":
    main()

"""What a visit of a federation costs beyond its training: seconds, bytes and memory.

    python benchmarks/federation.py --backbones slim_resnet18 resnet34 vit_l_16 --batch 4

A FLARE system of a server and two sites runs on this machine, each a process of its own, with certificates, on
loopback. The model goes round over phantoms of the eye, two steps a visit, and no validation is made. A visit's
overhead is the time from the server's question to its next one, less the seconds that the site has trained, which its
ledger's line has; the first visit of each site, in which its data is opened, is left out. Beside it stand FLARE's own
cyclic transfer, whose overhead is the time from the end of a site's steps to the beginning of the next one's, and the
same run in one process. It needs the extra ``nvflare``.
"""

import argparse
import itertools
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import harness
from harness import Facts, Watch, Way
from lit_dist.checkpoints.run_folder import LEDGER
from lit_dist.cli.federate import parse
from lit_dist.federation.flare.engine import write_job
from lit_dist.federation.flare.local import ADMIN, LocalSystem
from lit_dist.federation.flare.session import connect, make_job
from lit_dist.provenance.entry import Entry
from lit_dist.provenance.ledger import read_entries
from lit_dist.runs.lightning_cli import build

SITES = ["site-1", "site-2"]
FLARE = harness.ROOT / "benchmarks" / "programs" / "flare_cyclic.py"


def settings(backbone: str, cycles: int, size: int, batch: int) -> dict[str, Any]:
    """The settings of a run of so many cycles."""
    words = ["--model", "ImageClassifier", "--model.backbone", backbone, "--data", "PhantomDataModule"]
    if backbone.startswith("vit"):
        words += ["--model.backbone_kwargs", f"{{image_size: {size}}}"]
    words += ["--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr", "0.01"]
    words += ["--data.sites", "2", "--data.patients", str(3 * batch), "--data.size", str(size)]
    words += ["--data.batch_size", str(batch)]
    words += ["--trainer.callbacks", "CyclicalWeightTransfer", "--trainer.callbacks.every_n_epochs", "1"]
    words += ["--trainer.max_epochs", str(2 * cycles), "--trainer.limit_val_batches", "0"]
    words += ["--trainer.accelerator", "cpu", "--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "runs"]
    return parse([*words, "--trainer.enable_progress_bar", "false"])


def federated(run: dict[str, Any], folder: Path) -> Facts:
    """Make a run over a server and two sites."""
    data = run["data"]
    of_site = {site: {**data, "init_args": {**data["init_args"], "only_site": site}} for site in SITES}
    own = {site: {"data": of_site[site], "metrics": "all"} for site in SITES}
    with LocalSystem(folder / "system", own) as system:
        session = connect(system.kits / ADMIN, ADMIN, 120, system.check)
        watches = {name: Watch(system.processes(name)[0].pid) for name in ("server", SITES[0])}
        for watch in watches.values():
            watch.start()
        write_job(folder / "job", run, SITES, SITES, {"root": str(folder), "timeout": 3600})
        report = make_job(session, folder / "job", system.check)
        for watch in watches.values():
            watch.end.set()
        session.close()
    if "error" in report:
        raise SystemExit(report["error"])
    visits = [asked for asked in report["asked"] if asked["question"] == "train"]
    return _costs(visits, read_entries(Path(report["run"]) / LEDGER)) | {
        f"memory of {'the server' if name == 'server' else 'a site'}": watch.memory / 1e6
        for name, watch in watches.items()
    }


def _costs(visits: list[Facts], entries: list[Entry]) -> Facts:
    starts = [asked["start"] for asked in visits]
    whole = [later - start for start, later in itertools.pairwise(starts)]
    overheads = [seconds - entry.seconds for seconds, entry in zip(whole, entries, strict=False)]
    shares = [max(asked["sent"], *asked["received"].values()) / entries[0].bytes for asked in visits]
    return {
        "weights": entries[0].bytes / 1e6,
        "whole": whole[len(SITES) :],
        "overheads": overheads[len(SITES) :],
        "shares": shares,
    }


def in_one_process(run: dict[str, Any], folder: Path, cycles: int) -> float:
    """Make the same run by ``fit``: the seconds a visit."""
    made = build({**run, "trainer": {**run["trainer"], "default_root_dir": str(folder), "logger": False}})
    start = time.perf_counter()
    made.trainer.fit(made.model, made.datamodule)
    return (time.perf_counter() - start) / (len(SITES) * cycles)


def measure(backbone: str, options: argparse.Namespace) -> dict[str, Facts]:
    """What each way costs with one network."""
    run = settings(backbone, options.cycles, options.size, options.batch)
    with tempfile.TemporaryDirectory() as folder:
        ours = federated(run, Path(folder))
        alone = in_one_process(run, Path(folder) / "alone", options.cycles)
    found = {"lit_dist": ours, "one process": {"whole": [alone]}}
    if backbone not in options.only_ours:
        numbers = [str(number) for number in (options.size, options.cycles, options.batch)]
        theirs = harness.measure(Way("FLARE", [sys.executable, str(FLARE), backbone, *numbers]))
        found["FLARE"] = {"overheads": theirs["gaps"][1:]}
    return found


def rows(backbone: str, found: dict[str, Facts]) -> list[list[str]]:
    """The table's rows of one network."""
    ours = found["lit_dist"]
    name = f"{backbone}, {ours['weights']:.0f} MB"
    memory = [f"{ours[f'memory of {who}']:.0f} MB" for who in ("the server", "a site")]
    flare = found.get("FLARE", {}).get("overheads")
    return [
        [f"{name}, lit_dist", harness.spread(ours["overheads"]), harness.spread(ours["whole"]),
         f"{max(ours['shares']):.4f}", *memory],
        *([[f"{name}, FLARE's own cyclic transfer", harness.spread(flare), "", "", "", ""]] if flare else []),
        [f"{name}, `lit-dist fit`, one process", "", harness.spread(found["one process"]["whole"]), "", "", ""],
    ]  # fmt: skip


def main() -> None:
    """Parse the options, measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["resnet34"])
    parser.add_argument("--cycles", type=int, default=5)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--only-ours", nargs="*", default=[], help="networks that FLARE's own transfer is not run with")
    options = parser.parse_args()
    before = harness.machine()
    found = {backbone: measure(backbone, options) for backbone in options.backbones}
    head = ["", "seconds a visit beyond training", "seconds a visit", "most bytes one way / the weights'",
            "memory of the server", "memory of a site"]  # fmt: skip
    table = [head, *(row for backbone, each in found.items() for row in rows(backbone, each))]
    harness.write("federation", found, table, before)


if __name__ == "__main__":
    main()

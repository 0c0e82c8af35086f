"""What a visit of a federation costs beyond its training: seconds, bytes and memory.

A FLARE system of a server and two sites runs on this machine, each a process of its own, with certificates, on
loopback. The model goes round over phantoms of the eye, and no validation is made. A visit's overhead is the time from
the server's question to its next one, less the seconds that the site has trained, which its ledger's line has; the
first visit of each site, in which its data is opened, is left out.

Run it with ``python benchmarks/federation.py``; options say how much. It needs the extra ``nvflare``.
"""

import argparse
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

import harness
from lit_dist.federation.federate import parse
from lit_dist.federation.flare import connect, make_job, write_job
from lit_dist.federation.local import ADMIN, LocalSystem
from lit_dist.ledger import read_entries
from lit_dist.run_folder import LEDGER

SITES = ["site-1", "site-2"]


def settings(backbone: str, cycles: int, size: int) -> dict[str, Any]:
    """The settings of a run of so many cycles."""
    words = ["--model", "ImageClassifier", "--model.backbone", backbone, "--data", "PhantomDataModule"]
    words += ["--data.sites", "2", "--data.patients", "48", "--data.size", str(size), "--data.batch_size", "16"]
    words += ["--trainer.callbacks", "CyclicalWeightTransfer", "--trainer.callbacks.every_n_epochs", "1"]
    words += ["--trainer.max_epochs", str(2 * cycles), "--trainer.limit_val_batches", "0"]
    words += ["--trainer.accelerator", "cpu", "--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "runs"]
    return parse([*words, "--trainer.enable_progress_bar", "false"])


class Memory(threading.Thread):
    """Notes the greatest memory of the processes of a party, until it is stopped."""

    def __init__(self, system: LocalSystem, name: str) -> None:
        super().__init__(daemon=True)
        self.system, self.party, self.greatest, self.running = system, name, 0, True

    def run(self) -> None:
        """Look every second at the greatest of the party's processes, which is that of the job."""
        while self.running:
            sizes = []
            for process in self.system.processes(self.party):
                try:
                    sizes.append(process.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue
            self.greatest = max([self.greatest, *sizes])
            time.sleep(1)


def measure(backbone: str, cycles: int, size: int, folder: Path) -> None:
    """Make a run and print what its visits cost."""
    run = settings(backbone, cycles, size)
    data = run["data"]
    own = {site: {"data": {**data, "init_args": {**data["init_args"], "only_site": site}}} for site in SITES}
    with LocalSystem(folder / "system", own) as system:
        session = connect(system.kits / ADMIN, ADMIN, 120, system.check)
        memory = [Memory(system, name) for name in ("server", "site-1")]
        for each in memory:
            each.start()
        write_job(folder / "job", run, SITES, SITES, {"root": str(folder), "timeout": 3600})
        report = make_job(session, folder / "job", system.check)
        for each in memory:
            each.running = False
        session.close()
    if "error" in report:
        raise SystemExit(report["error"])
    entries = read_entries(Path(report["run"]) / LEDGER)
    visits = [asked for asked in report["asked"] if asked["question"] == "train"]
    starts = [asked["start"] for asked in visits]
    overheads = [
        later - start - entry.seconds for start, later, entry in zip(starts, starts[1:], entries, strict=False)
    ][len(SITES) :]
    share = [max(asked["sent"], *asked["received"].values()) / entries[0].bytes for asked in visits]
    print(
        f"{backbone}, {entries[0].bytes / 1e6:.1f} MB of weights, {len(visits)} visits: overhead"
        f" {harness.spread(overheads)} s a visit;"
        f" {max(share):.4f} times the weights each way; greatest memory"
        f" {', '.join(f'{each.party} {each.greatest / 1e6:.0f} MB' for each in memory)};"
        f" load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )


def main() -> None:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["resnet34"])
    parser.add_argument("--cycles", type=int, default=5)
    parser.add_argument("--size", type=int, default=64)
    options = parser.parse_args()
    for backbone in options.backbones:
        with tempfile.TemporaryDirectory() as folder:
            measure(backbone, options.cycles, options.size, Path(folder))


if __name__ == "__main__":
    main()

"""What the callback costs: plain Lightning on one loader against cyclical transfer over 4 and over 100 sites.

All three train a ResNet-18 on the same number of batches of the same size, each in a process of its own, one after
another in turns. A visit has 30 steps; the paper's sites had 47 batches each. Printed are the medians of the wall time
of ``fit`` relative to plain Lightning's, with their spread, and the greatest memory of each.

Run it with ``python benchmarks/transfer_overhead.py``; options say how much.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

BATCH_SIZE = 16
STEPS_A_VISIT = 30
SETTINGS = {"plain": 1, "4 sites": 4, "100 sites": 100}


def measure(sites: int, steps: int, size: int, workers: int) -> dict[str, float]:
    """Train once, in this process.

    Args:
        sites: The number of sites; 1 is plain Lightning without the callback.
        steps: The number of training batches.
        size: The images' side, in pixels.
        workers: The number of worker processes of a loader.
    """
    import lightning as L
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from lit_dist import ImageClassifier
    from lit_dist.callbacks import CyclicalWeightTransfer

    L.seed_everything(0, verbose=False)
    visits = steps // STEPS_A_VISIT
    images = torch.randn(STEPS_A_VISIT * BATCH_SIZE, 3, size, size)
    site = TensorDataset(images, torch.arange(len(images)) % 2)

    def loader() -> DataLoader[tuple[torch.Tensor, ...]]:
        return DataLoader(site, batch_size=BATCH_SIZE, shuffle=True, num_workers=workers)

    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            max_epochs=visits,  # one pass over one site each
            callbacks=[CyclicalWeightTransfer(every_n_epochs=1)] if sites > 1 else [],
            accelerator="cpu",
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            log_every_n_steps=10,
            limit_val_batches=0,
            default_root_dir=folder,
        )

        class Data(L.LightningDataModule):
            def train_dataloader(self) -> object:
                return {f"site-{number}": loader() for number in range(sites)} if sites > 1 else loader()

        start = time.perf_counter()
        trainer.fit(ImageClassifier("resnet18"), Data())
        seconds = time.perf_counter() - start
    assert trainer.global_step == steps
    return {"seconds": seconds, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    """Run the three in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=360, help="a multiple of 30")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    amounts = [options.steps, options.size, options.workers]
    if options.only:
        print(json.dumps(measure(options.only, *amounts)))
        return
    words = [f"--{name}={value}" for name, value in zip(("steps", "size", "workers"), amounts, strict=True)]
    results: dict[str, list[dict[str, float]]] = {name: [] for name in SETTINGS}
    for _ in range(options.repeats):
        for name, sites in SETTINGS.items():
            command = [sys.executable, "-W", "ignore", __file__, f"--only={sites}", *words]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # more threads disturb each other on a busy machine
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            results[name].append(json.loads(done.stdout.splitlines()[-1]))
    print(f"{'':12}  time / plain (median, least to most)   peak memory")
    for name, runs in results.items():
        ratios = [run["seconds"] / plain["seconds"] for run, plain in zip(runs, results["plain"], strict=True)]
        megabytes = statistics.median(run["megabytes"] for run in runs)
        spread = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        print(f"{name:12}  {spread:38} {megabytes:.0f} MB")


if __name__ == "__main__":
    main()

"""What a training step takes: by plain PyTorch, by Lightning, by lit_dist, and by lit_dist with each setting for speed.

Run it with ``python benchmarks/step.py --repeats 3``; on a GPU with ``--accelerator gpu --bf16``. ``--compiled`` adds
the rows with ``torch.compile``, which takes minutes, and so does ``--bf16`` on a processor that has no instructions
for it. A step's time is that between the fourth step's end and the last one's, by their number. Two sites of the same
few images take turns, and all that a user of the classifier has is on: ledger, metrics of training, CSV logger.
"""

import argparse
import json
import sys
import tempfile
import time
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from typing_extensions import override

import harness
from harness import Facts, Way
from lit_dist import ImageClassifier, SiteLoader
from lit_dist.callbacks import CyclicalWeightTransfer
from lit_dist.models.backbones import build_backbone

Loader = DataLoader[tuple[torch.Tensor, ...]]
EPOCHS = 4
_FIRST = 4  # the step after which time counts: the first ones are slower, and compile
WORKS = {"slim ResNet-18, 64 px": ("slim_resnet18", 64, 32, 60), "ResNet-34, 256 px": ("resnet34", 256, 8, 12)}
LOOP, LIGHTNING = "plain PyTorch", "plain Lightning"
WAYS: dict[str, dict[str, Any]] = {
    LOOP: {},
    LIGHTNING: {},
    "lit_dist": {},
    "lit_dist, `channels_last`": {"channels_last": True},
}
BF16: dict[str, dict[str, Any]] = {
    "lit_dist, `precision: bf16-mixed`": {"precision": "bf16-mixed"},
    "lit_dist, both": {"channels_last": True, "precision": "bf16-mixed"},
}
COMPILED: dict[str, dict[str, Any]] = {
    "lit_dist, `compiled`": {"compiled": True},
    "lit_dist, `compiled` and `channels_last`": {"channels_last": True, "compiled": True},
}
ALL = WAYS | BF16 | COMPILED


class Module(pl.LightningModule):
    """The network as a user of Lightning alone would train it."""

    def __init__(self, backbone: str) -> None:
        super().__init__()
        self.network = build_backbone(backbone, 2)

    @override
    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        return cross_entropy(self.network(batch[0]), batch[1])

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class Clock(pl.Callback):
    """Notes when the steps begin to count, and when the last one has ended."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.ends: list[float] = []

    def note(self, step: int) -> None:
        """Note the end of a step, counted from 1."""
        if step in (_FIRST, self.steps):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.ends.append(time.perf_counter())

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.note(trainer.global_step)

    @property
    def step(self) -> float:
        """Seconds a step."""
        return (self.ends[1] - self.ends[0]) / (self.steps - _FIRST)


def run(way: str, work: str, accelerator: str) -> Facts:
    """Train in this process, and return the seconds a step."""
    backbone, size, batch, steps = WORKS[work]
    torch.manual_seed(0)
    number = batch * steps // EPOCHS
    images = TensorDataset(torch.randn(number, 3, size, size), torch.arange(number) % 2)
    loaders = [DataLoader(images, batch_size=batch, shuffle=True, pin_memory=accelerator == "gpu") for _ in range(2)]
    clock = Clock(steps)
    if way == LOOP:
        train_plainly(build_backbone(backbone, 2), loaders[0], "cuda" if accelerator == "gpu" else "cpu", clock)
        return {"step": clock.step}
    settings = dict(ALL[way])
    precision = settings.pop("precision", "32-true")
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=EPOCHS,
            accelerator=accelerator,
            devices=1,
            precision=precision,
            callbacks=[clock] if way == LIGHTNING else [CyclicalWeightTransfer(every_n_epochs=1), clock],
            logger=CSVLogger(folder),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        if way == LIGHTNING:
            trainer.fit(Module(backbone), loaders[0])
        else:
            trainer.fit(ImageClassifier(backbone, **settings), SiteLoader(dict(zip("ab", loaders, strict=True))))
    return {"step": clock.step}


def train_plainly(network: nn.Module, loader: Loader, device: str, clock: Clock) -> None:
    """The loop that one writes by hand."""
    network.to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    step = 0
    for _ in range(EPOCHS):
        for images, labels in loader:
            optimizer.zero_grad()
            cross_entropy(network(images.to(device)), labels.to(device)).backward()
            optimizer.step()
            step += 1
            clock.note(step)


def main() -> None:
    """Run all in turns and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--accelerator", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        way, work = options.only
        print(json.dumps(run(way, work, options.accelerator)))
        return
    before = harness.machine()
    names = [*WAYS, *(BF16 if options.bf16 else []), *(COMPILED if options.compiled else [])]
    words = [sys.executable, __file__, "--accelerator", options.accelerator, "--only"]
    found = {
        work: harness.in_turns([Way(name, [*words, name, work]) for name in names], options.repeats) for work in WORKS
    }
    rows = [["a step's time / plain PyTorch's", *WORKS]]
    for name in names:
        rows.append([name, *(harness.spread(harness.ratios(found[work], name, LOOP, "step")) for work in WORKS)])
    harness.write(f"step_{options.accelerator}", found, rows, before)


if __name__ == "__main__":
    main()

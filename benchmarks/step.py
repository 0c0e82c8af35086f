"""What a training step takes: by plain PyTorch, by Lightning, by lit_dist, and by lit_dist with each setting for speed.

Run it with ``python benchmarks/step.py --repeats 3``; on a GPU with ``--accelerator gpu``. ``--compiled`` adds the rows
with ``torch.compile``, which takes minutes. A step's time is that between the first step's end and the last one's, by
their number; two sites of the same few images take turns, and everything that a user of the classifier has is on: the
ledger, the metrics of training, a CSV logger.
"""

import argparse
import json
import sys
import tempfile
import time
from typing import Any

import harness
from harness import Facts, Way

WORKS = {"slim ResNet-18, 64 px": ("slim_resnet18", 64, 32, 60), "ResNet-34, 256 px": ("resnet34", 256, 8, 12)}
LOOP = "plain PyTorch"
WAYS: dict[str, dict[str, Any]] = {
    LOOP: {},
    "plain Lightning": {},
    "lit_dist": {},
    "lit_dist, `channels_last`": {"channels_last": True},
    "lit_dist, `precision: bf16-mixed`": {"precision": "bf16-mixed"},
    "lit_dist, both": {"channels_last": True, "precision": "bf16-mixed"},
}
COMPILED: dict[str, dict[str, Any]] = {
    "lit_dist, `compiled`": {"compiled": True},
    "lit_dist, all three": {"channels_last": True, "precision": "bf16-mixed", "compiled": True},
}


def run(way: str, work: str, accelerator: str) -> Facts:
    """Train in this process, and return the seconds a step."""
    import lightning.pytorch as pl
    import torch
    from lightning.pytorch.loggers import CSVLogger
    from torch.nn.functional import cross_entropy
    from torch.utils.data import DataLoader, TensorDataset

    from lit_dist import ImageClassifier, SiteLoader
    from lit_dist.backbone import build_backbone
    from lit_dist.callbacks import CyclicalWeightTransfer

    backbone, size, batch, steps = WORKS[work]
    settings = {**WAYS, **COMPILED}[way]
    torch.manual_seed(0)
    images = TensorDataset(torch.randn(batch * steps // 4, 3, size, size), torch.arange(batch * steps // 4) % 2)

    def loader() -> DataLoader[tuple[torch.Tensor, ...]]:
        return DataLoader(images, batch_size=batch, shuffle=True, pin_memory=accelerator == "gpu")

    class Clock(pl.Callback):
        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
            if trainer.global_step in (4, steps):  # the first ones are slower, and compile
                if accelerator == "gpu":
                    torch.cuda.synchronize()
                self.ends.append(time.perf_counter())

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = build_backbone(backbone, 2)

        def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
            return cross_entropy(self.network(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    clock = Clock()
    if way == LOOP:
        device = torch.device("cuda" if accelerator == "gpu" else "cpu")
        network = build_backbone(backbone, 2).to(device).train()
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        count = 0
        for _ in range(4):
            for pixels, labels in loader():
                optimizer.zero_grad()
                cross_entropy(network(pixels.to(device)), labels.to(device)).backward()
                optimizer.step()
                count += 1
                clock.on_train_batch_end(type("At", (), {"global_step": count}))  # type: ignore[arg-type]
    else:
        ours = way != "plain Lightning"
        own = {name: value for name, value in settings.items() if name != "precision"}
        with tempfile.TemporaryDirectory() as folder:
            trainer = pl.Trainer(
                max_epochs=4,
                accelerator=accelerator,
                devices=1,
                precision=settings.get("precision", "32-true"),
                callbacks=[*([CyclicalWeightTransfer(every_n_epochs=1)] if ours else []), clock],
                logger=CSVLogger(folder),
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                default_root_dir=folder,
            )
            module = ImageClassifier(backbone, **own) if ours else Module()
            trainer.fit(module, SiteLoader({"a": loader(), "b": loader()}) if ours else loader())
    return {"step": (clock.ends[1] - clock.ends[0]) / (steps - 4)}


def main() -> None:
    """Run all in turns and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--accelerator", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        way, work = options.only
        print(json.dumps(run(way, work, options.accelerator)))
        return
    before = harness.machine()
    names = [*WAYS, *(COMPILED if options.compiled else [])]
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

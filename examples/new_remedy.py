"""A remedy of your own in ten lines: the mean of the weights that the visits of a run ended with.

A ``VisitCallback`` has the events of a visit, state that travels with the model, and state that stays at each site.
Run it with ``python examples/new_remedy.py``.
"""

from typing import Any

import lightning as L
import torch

from lit_dist import ImageClassifier, Visit, VisitCallback
from lit_dist.callbacks import CyclicalWeightTransfer
from lit_dist.datamodules import PhantomDataModule


class MeanOfVisits(VisitCallback):
    """Keeps the sum of the weights after each visit; the sum goes from site to site with the model."""

    def begin_run(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say what travels, in the form that it keeps."""
        self.travelling = {
            "sum": {name: torch.zeros_like(each, dtype=torch.float64) for name, each in pl_module.named_parameters()},
            "visits": 0,
        }

    def on_visit_end(self, trainer: L.Trainer, pl_module: L.LightningModule, visit: Visit) -> None:
        """Add the weights that the visit hands on."""
        for name, each in pl_module.named_parameters():
            self.travelling["sum"][name] += each.detach()
        self.travelling["visits"] += 1

    @property
    def mean(self) -> dict[str, Any]:
        """The mean so far."""
        return {name: total / self.travelling["visits"] for name, total in self.travelling["sum"].items()}


def main() -> tuple[L.Trainer, MeanOfVisits]:
    """Train two cycles over three sites."""
    L.seed_everything(0, verbose=False)
    remedy = MeanOfVisits()
    trainer = L.Trainer(
        max_epochs=6,
        callbacks=[CyclicalWeightTransfer(every_n_epochs=1), remedy],
        accelerator="cpu",
        log_every_n_steps=1,
        default_root_dir="runs/new_remedy",
        enable_progress_bar=False,
    )
    trainer.fit(ImageClassifier("slim_resnet18"), PhantomDataModule(sites=3, patients=30, size=32, batch_size=8))
    return trainer, remedy


if __name__ == "__main__":
    trainer, remedy = main()
    apart = sum(float((remedy.mean[name] - each).norm()) for name, each in trainer.lightning_module.named_parameters())
    trainer.print(f"mean of {remedy.travelling['visits']} visits, {apart:.3f} from the last one's weights")

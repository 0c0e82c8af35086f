"""A heuristic of your own in a few lines: a random walk, which may go to any other site next.

A heuristic says which site a visit is at, as a pure function of the visit's number; ``WeightTransfer`` does the rest.
Run it with ``python examples/new_heuristic.py``.
"""

from collections.abc import Sequence

import lightning as L

from lit_dist import ImageClassifier, Itinerary
from lit_dist.callbacks import WeightTransfer
from lit_dist.datamodules import PhantomDataModule
from lit_dist.visits.seeding import derive, run_seed


class RandomWalk(Itinerary):
    """Every visit is at a site drawn anew, from the run's seed."""

    def __init__(self, sites: Sequence[str], seed: int) -> None:
        super().__init__(sites)
        self.seed = seed

    def site(self, visit: int) -> str:
        """The site of a visit."""
        return self.sites[derive(self.seed, "walk", visit) % len(self.sites)]


class RandomWalkTransfer(WeightTransfer):
    """Hand the weights to a random site, again and again."""

    def itinerary(self, sites: Sequence[str]) -> Itinerary:
        """The walk over all sites."""
        return RandomWalk(sites, run_seed(self.seed))


def main() -> L.Trainer:
    """Train ten visits of two optimizer steps each."""
    L.seed_everything(0, verbose=False)
    trainer = L.Trainer(
        max_epochs=2,
        callbacks=[RandomWalkTransfer(every_n_steps=2)],
        accelerator="cpu",
        log_every_n_steps=1,
        default_root_dir="runs/new_heuristic",
        enable_progress_bar=False,
    )
    trainer.fit(ImageClassifier("slim_resnet18"), PhantomDataModule(sites=5, patients=40, size=32, batch_size=8))
    return trainer


if __name__ == "__main__":
    trainer = main()
    trainer.print(f"see {trainer.log_dir}/ledger.jsonl")

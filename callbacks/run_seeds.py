"""RunSeeds: all chance in a fit follows from the run's seed and from the place in it, so none has to be kept."""

import os
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn

from lit_dist.visits.epoch_plan import Stretch
from lit_dist.visits.seeding import ModuleGenerators, derive, find_generators, run_seed, seed_generator, seed_generators
from lit_dist.visits.site_loader import SiteLoader
from lit_dist.visits.site_source import SiteSource


class RunSeeds:
    """Seeds the passes and steps of a fit without a transfer, as a transfer does, and in every fit what lies between.

    A pass over the training loader has the seed of its epoch; each batch and each step has its own. What follows a
    step, such as a validation, is seeded by the step before, and what precedes an epoch by the epoch. A fit that is
    resumed is seeded alike.
    """

    def __init__(self) -> None:
        self._seed = 0
        self._source: SiteSource | None = None

    def setup(self, trainer: Trainer, steered: bool) -> None:
        """Take the training loader of a fit over, before it is asked for, unless a transfer steers it."""
        given = run_seed() if "PL_GLOBAL_SEED" in os.environ else torch.initial_seed()
        self._seed = trainer.strategy.broadcast(given)
        if not steered:
            self._source = SiteSource(trainer, lambda loader: self._connect(trainer, loader), single=True)

    def _connect(self, trainer: Trainer, loader: SiteLoader) -> None:
        loader.follow(lambda site: Stretch(site, None, -1, trainer.current_epoch, self._seed))

    def replan(self) -> None:
        """Ask for the loader anew where it was asked for before the state of the run was known."""
        if self._source is not None and self._source.loader is not None:
            self._source.replan(now=True)

    def begin(self, trainer: Trainer, resumed: bool) -> None:
        """Seed the generators as they were where the run is resumed."""
        self._generators = ModuleGenerators(trainer.lightning_module)
        self._generators.look()
        if self._source is not None:
            self._source.settle()
            if resumed and self._source.loader is None:
                rank_zero_warn(
                    "The training data is several loaders that are drawn from at once, whose order is not known from"
                    " the run's seed, so the run will not equal one that was never interrupted."
                )
        done = trainer.fit_loop.epoch_loop.batch_idx
        if resumed and done >= 0:
            self._seed_all(trainer, "after", trainer.current_epoch, done)
        elif resumed:
            self._seed_all(trainer, "before", trainer.current_epoch)

    def after_step(self, trainer: Trainer, batch_idx: int) -> None:
        """Seed what follows a step."""
        self._generators.look()
        self._seed_all(trainer, "after", trainer.current_epoch, batch_idx)

    def after_epoch(self, trainer: Trainer) -> None:
        """Seed what precedes the next epoch."""
        self._seed_all(trainer, "before", trainer.current_epoch + 1)

    def before_validation(self, trainer: Trainer) -> None:
        """Seed the generators of the validation images' transforms; worker processes begin each pass alike."""
        place = ("validation", trainer.current_epoch, trainer.global_step, trainer.global_rank)
        for number, generator in enumerate(find_generators(trainer.val_dataloaders)):
            seed_generator(generator, derive(self._seed, *place, number))

    def _seed_all(self, trainer: Trainer, *place: int | str) -> None:
        seed = derive(self._seed, *place, trainer.global_rank)
        seed_generators(seed, self._generators.found, trainer.strategy.root_device)

    def close(self) -> None:
        """Leave the source of the training data as it was."""
        if self._source is not None:
            self._source.close()
            self._source = None

    def state_dict(self) -> dict[str, Any]:
        """The seed, for a checkpoint."""
        return {"seed": self._seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from the state of a checkpoint."""
        self._seed = state["seed"]

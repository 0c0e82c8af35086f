"""VisitSampler: the order of a site's images, with a seed for each."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.distributed
from torch.utils.data import DistributedSampler

from lit_dist.visits.seeding import pass_seed, sample_seeds


class Draw(NamedTuple):
    """An image to load, and the seed of its augmentation.

    Attributes:
        row: The image's index in the dataset.
        seed: The seed; it travels with the index, so that a worker process needs no state of its own.
    """

    row: int
    seed: int


class VisitSampler(DistributedSampler[Draw]):
    """Draws all images once, in an order that depends on a seed alone.

    With several processes each draws its own part. Where the parts would be unequal, the last images of the order are
    left out, so that none is drawn twice.

    Args:
        length: The number of images.
        seed: The run's seed, for runs whose passes are numbered by ``set_epoch``.

    Example:
        >>> sampler = VisitSampler(3)
        >>> sampler.seed_pass(7)
        >>> order = list(sampler)
        >>> sorted(draw.row for draw in order), order == list(sampler)
        ([0, 1, 2], True)
    """

    def __init__(self, length: int, seed: int = 0) -> None:
        spread = torch.distributed.is_available() and torch.distributed.is_initialized()
        replicas, rank = (None, None) if spread else (1, 0)
        super().__init__(range(length), replicas, rank, seed=seed, drop_last=True)  # type: ignore[arg-type]
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Seed the coming pass by its number in the run, as Lightning does before each epoch."""
        self.seed_pass(pass_seed(self.seed, -1, epoch))

    def seed_pass(self, seed: int) -> None:
        """Seed the coming pass, as ``SiteLoader`` does after that."""
        self._pass_seed = seed

    def __iter__(self) -> Iterator[Draw]:
        generator = torch.Generator().manual_seed(self._pass_seed)
        order = torch.randperm(len(self.dataset), generator=generator)  # type: ignore[arg-type]
        mine = order[self.rank : self.total_size : self.num_replicas].numpy()
        return map(Draw, mine.tolist(), sample_seeds(self._pass_seed, mine).tolist())

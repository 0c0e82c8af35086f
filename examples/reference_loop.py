"""The same run twice: by lit_dist, and by a plain PyTorch loop. Both end with the same weights, to the last bit.

The loop has no Trainer, no callback and no loader. It shows all that cyclical weight transfer is: the same network goes
from site to site, and everything random is seeded by the run, the visit and the image.

Run it with ``python examples/reference_loop.py``.
"""

import lightning as L
import torch
from torch.nn.functional import cross_entropy

from lit_dist import ImageClassifier
from lit_dist.callbacks import CyclicalWeightTransfer
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.datamodules import PhantomDataModule
from lit_dist.visits.seeding import pass_seed, sample_seeds, step_seed

SEED = 0
CYCLES = 2
BATCH_SIZE = 16


def make_data(num_workers: int = 0) -> PhantomDataModule:
    """Three sites with the same drawn images every time."""
    return PhantomDataModule(sites=3, patients=60, size=32, batch_size=BATCH_SIZE, num_workers=num_workers)


def make_model() -> ImageClassifier:
    """A small network with the same weights every time; it has dropout and batch normalisation."""
    L.seed_everything(SEED, verbose=False)
    return ImageClassifier("slim_resnet18", num_classes=2, dropout=0.2)


def run_lit_dist(num_workers: int = 0) -> str:
    """Train by lit_dist, and return the fingerprint of the final weights."""
    model, data = make_model(), make_data(num_workers)
    trainer = L.Trainer(
        max_epochs=CYCLES * 3,
        callbacks=[CyclicalWeightTransfer(every_n_epochs=1)],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir="runs/reference",
        limit_val_batches=0,
    )
    trainer.fit(model, data)
    return fingerprint(model.state_dict())[0]


def run_plain() -> str:
    """Train by a plain loop, and return the fingerprint of the final weights."""
    model, data = make_model(), make_data()
    datasets = [data.dataset([site], "train") for site in data.sites]
    assert data.augmentation is not None
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    for visit in range(CYCLES * len(datasets)):
        dataset = datasets[visit % len(datasets)]
        optimizer.state.clear()  # only the weights travel
        seed = pass_seed(SEED, visit, 0)
        order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))
        for step, indices in enumerate(order.split(BATCH_SIZE)):
            pixels = dataset.pixels[dataset.slots[indices]]
            augmented = data.augmentation(pixels, sample_seeds(seed, indices.numpy()))
            images = data.normalise(torch.from_numpy(augmented).permute(0, 3, 1, 2))
            labels = torch.from_numpy(dataset.labels[indices])
            torch.manual_seed(step_seed(seed, step))
            loss = cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return fingerprint(model.state_dict())[0]


if __name__ == "__main__":
    by_loop, by_lit_dist = run_plain(), run_lit_dist()
    print(f"plain loop  {by_loop}\nlit_dist    {by_lit_dist}")
    assert by_loop == by_lit_dist

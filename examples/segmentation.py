"""Segmentation with a module of your own: the breast and the muscle on mammograms of three DDSM sites.

The module is a small U-Net that knows nothing of lit_dist; its batches are dicts. Its ``validation_step`` logs a loss
and a Dice coefficient, which lit_dist gives for each site. Run it with ``python examples/segmentation.py FOLDER``, the
folder of ``images/A_0002_1.RIGHT_MLO.png`` and ``masks/A_0002_1.RIGHT_MLO_LI.png``, whose first letter is the site.
"""

import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, read_image

from lit_dist.callbacks import CyclicalWeightTransfer, SiteEvaluation

SIZE = 96, 48
BACKGROUND, MUSCLE = 64, 255


class Films(Dataset[dict[str, Any]]):
    """Films of one site, and their masks of two channels: the breast, and the pectoral muscle."""

    def __init__(self, films: list[Path]) -> None:
        self.films = films

    def __len__(self) -> int:
        """The number of films."""
        return len(self.films)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A film as a dict, as MONAI's transforms give it."""
        film = self.films[index]
        grey = read_image(str(film), ImageReadMode.GRAY)[None].float() / 255
        tissue = read_image(str(film.parents[1] / "masks" / f"{film.stem}_LI.png"), ImageReadMode.GRAY)
        masks = torch.cat([tissue != BACKGROUND, tissue == MUSCLE])[None].float()
        image, label = interpolate(grey, SIZE, mode="area")[0], interpolate(masks, SIZE, mode="area")[0]
        return {"image": image, "label": (label > 0.5).float(), "name": film.name}


class FilmsBySite(L.LightningDataModule):
    """One loader a site; every fourth film is for validation."""

    def __init__(self, folder: Path, most: int = 100) -> None:
        super().__init__()
        films = sorted((folder / "images").glob("*.png"))
        letters = sorted({film.name[0] for film in films})
        self.films = {f"site-{each}": [film for film in films if film.name[0] == each][:most] for each in letters}

    def train_dataloader(self) -> dict[str, DataLoader[Any]]:
        """The loaders for training."""
        films = {site: [film for n, film in enumerate(each) if n % 4] for site, each in self.films.items()}
        return {site: DataLoader(Films(each), batch_size=4, shuffle=True) for site, each in films.items()}

    def val_dataloader(self) -> dict[str, DataLoader[Any]]:
        """The loaders for validation, by site as well."""
        return {site: DataLoader(Films(each[::4]), batch_size=4) for site, each in self.films.items()}


def block(inputs: int, outputs: int) -> nn.Sequential:
    """A convolution with its normalisation."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(4, outputs), nn.ReLU())


class UNet(L.LightningModule):
    """A U-Net of three levels."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.down = nn.ModuleList([block(1, width), block(width, 2 * width), block(2 * width, 4 * width)])
        self.up = nn.ModuleList([block(6 * width, 2 * width), block(3 * width, width)])
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (images, 2, height, width)."""
        levels: list[Tensor] = []
        for number, each in enumerate(self.down):
            images = each(nn.functional.max_pool2d(images, 2) if number else images)
            levels.append(images)
        for each, beside in zip(self.up, reversed(levels[:-1]), strict=True):
            images = each(torch.cat([interpolate(images, scale_factor=2.0), beside], dim=1))
        logits: Tensor = self.head(images)
        return logits

    @staticmethod
    def dice(predicted: Tensor, truth: Tensor) -> Tensor:
        """The coefficient of each image and channel."""
        both, each = (predicted * truth).sum((2, 3)), (predicted + truth).sum((2, 3))
        return (2 * both + 1) / (each + 1)

    def loss(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Cross-entropy and Dice loss, as usual."""
        return binary_cross_entropy_with_logits(logits, truth) + 1 - self.dice(logits.sigmoid(), truth).mean()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The loss of a batch."""
        return self.loss(self(batch["image"]), batch["label"])

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Log the loss, and the Dice coefficient."""
        logits = self(batch["image"])
        dice = self.dice((logits > 0).float(), batch["label"]).mean()
        self.log_dict({"val_loss": self.loss(logits, batch["label"]), "val_dice": dice}, prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def main(folder: Path, cycles: int = 10, most: int = 100) -> L.Trainer:
    """Let the model go from site to site, and see after each cycle how it does at each."""
    L.seed_everything(0, verbose=False)
    data = FilmsBySite(folder, most)
    trainer = L.Trainer(
        max_epochs=cycles * len(data.films),
        callbacks=[CyclicalWeightTransfer(every_n_epochs=1, validation="cycle"), SiteEvaluation(metric="dice")],
        accelerator="cpu",
        log_every_n_steps=1,
        default_root_dir="runs/segmentation",
        enable_progress_bar=False,
    )
    trainer.fit(UNet(), data)
    return trainer


if __name__ == "__main__":
    found = main(Path(sys.argv[1]), *map(int, sys.argv[2:])).callback_metrics
    print(", ".join(f"{name} {float(value):.3f}" for name, value in found.items() if name.startswith("val_dice")))

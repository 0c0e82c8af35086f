"""Three projects as strangers write them, by the conventions of MONAI, of Hugging Face and of MedMNIST.

They know nothing of sites but that their loaders are a dict. A datamodule that is given ``only`` has that site alone.
"""

from collections import UserDict
from collections.abc import Callable
from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC

SIZES = {"mgh": (10, 5), "ucsf": (7, 9), "charite": (12, 4)}
"""Records for training and validation of each site; the last batches are smaller than the others."""

Record = Callable[[torch.Generator, int], Any]


class Records(Dataset[Any]):
    """Records of a site, each made from its number."""

    def __init__(self, make: Record, site: int, split: int, size: int) -> None:
        self.records = [make(torch.Generator().manual_seed(1000 * site + 500 * split + n), site) for n in range(size)]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Any:
        return self.records[index]


class SitesData(pl.LightningDataModule):
    """Loaders by site."""

    def __init__(self, make: Record, collate: Any = None, only: str | None = None) -> None:
        super().__init__()
        self.make, self.collate, self.only = make, collate, only

    def loaders(self, split: int) -> dict[str, DataLoader[Any]]:
        return {
            name: DataLoader(
                Records(self.make, number, split, SIZES[name][split]),
                batch_size=4,
                shuffle=split == 0,
                collate_fn=self.collate,
            )
            for number, name in enumerate(SIZES)
            if self.only in (None, name)
        }

    def train_dataloader(self) -> Any:
        return self.loaders(0)

    def val_dataloader(self) -> Any:
        return self.loaders(1)


# -- MONAI: batches are dicts, values are those of a Dice metric over the whole validation -----------------------------


def scan(generator: torch.Generator, site: int) -> dict[str, Any]:
    """A volume with a ball in it, as ``LoadImaged`` and ``EnsureChannelFirstd`` give it."""
    centre = torch.randint(2, 6, (3, 1, 1, 1), generator=generator)
    grid = torch.stack(torch.meshgrid(*[torch.arange(8)] * 3, indexing="ij"))
    mask = ((grid - centre).square().sum(0) <= 4 + site).float()[None]
    noise = 0.3 * torch.randn(mask.shape, generator=generator)
    meta = {"filename_or_obj": f"site{site}.nii.gz", "affine": torch.eye(4)}
    return {"image_meta_dict": meta, "image": mask + noise, "label": mask}


class SegmentationProject(pl.LightningModule):
    """A network of volumes, trained with the Dice loss."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv3d(1, 4, 3, padding=1), nn.InstanceNorm3d(4), nn.PReLU(), nn.Dropout(0.1), nn.Conv3d(4, 1, 1)
        )
        self.dice_values: list[Tensor] = []
        self.best_dice = 0.0

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.model(x)
        return found

    @staticmethod
    def dice(predicted: Tensor, truth: Tensor) -> Tensor:
        """The coefficient of each volume."""
        dims = (1, 2, 3, 4)
        return (2 * (predicted * truth).sum(dims) + 1) / (predicted.sum(dims) + truth.sum(dims) + 1)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        images, labels = batch["image"], batch["label"]
        return {"loss": 1 - self.dice(self(images).sigmoid(), labels).mean()}

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        probabilities = self(batch["image"]).sigmoid()
        self.log("val_loss", 1 - self.dice(probabilities, batch["label"]).mean())
        self.dice_values.append(self.dice((probabilities > 0.5).float(), batch["label"]))

    def on_validation_epoch_end(self) -> None:
        dice = torch.cat(self.dice_values).mean()
        self.dice_values.clear()
        self.best_dice = max(self.best_dice, dice.item())
        self.log("val_dice", dice, prog_bar=True)
        self.loss_seen = self.trainer.callback_metrics["val_loss"]

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 1e-2)


# -- Hugging Face: batches are a BatchEncoding, the loss is the model's own, the learning rate warms up by steps


def report(generator: torch.Generator, site: int) -> dict[str, Any]:
    """A text as tokens, whose label is whether one kind of token prevails."""
    length = int(torch.randint(4, 12, (1,), generator=generator))
    tokens = torch.randint(1, 20, (length,), generator=generator)
    return {"input_ids": tokens.tolist(), "labels": int((tokens < 8 + site).float().mean() > 0.4)}


def pad(records: list[dict[str, Any]]) -> "UserDict[str, Tensor]":
    """As ``DataCollatorWithPadding``: a ``BatchEncoding``, which is a ``UserDict``."""
    longest = max(len(record["input_ids"]) for record in records)
    ids = torch.tensor([record["input_ids"] + [0] * (longest - len(record["input_ids"])) for record in records])
    labels = torch.tensor([record["labels"] for record in records])
    return Encoding({"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": labels})


class Encoding(UserDict):  # type: ignore[type-arg]
    """Has ``to``, as a ``BatchEncoding`` does, so that Lightning moves it to the device."""

    def to(self, device: Any, **_: Any) -> "Encoding":
        return Encoding({name: tensor.to(device) for name, tensor in self.items()})


class TextModel(nn.Module):
    """Takes keywords and returns loss and logits, as ``AutoModelForSequenceClassification``."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8, padding_idx=0)
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(8, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
        states = self.embedding(input_ids) * attention_mask[..., None]
        logits = self.classifier(self.dropout(states.sum(1) / attention_mask.sum(1, keepdim=True)))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class TextProject(pl.LightningModule):
    """As Lightning's tutorial on GLUE tasks."""

    def __init__(self, warmup_steps: int = 4) -> None:
        super().__init__()
        self.warmup_steps = warmup_steps
        self.model = TextModel()

    def forward(self, **inputs: Any) -> Any:
        return self.model(**inputs)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = self(**batch)["loss"]
        self.log("train_loss", loss, batch_size=len(batch["labels"]))
        return loss

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        outputs = self(**batch)
        hits = (outputs["logits"].argmax(1) == batch["labels"]).float().mean()
        self.log_dict({"val/loss": outputs["loss"], "val/accuracy": hits}, prog_bar=True)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=5e-2)
        total = int(self.trainer.estimated_stepping_batches)
        rate = LambdaLR(optimizer, partial(_warm, self.warmup_steps, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}


def _warm(warmup: int, total: int, step: int) -> float:
    """As ``get_linear_schedule_with_warmup``."""
    return step / warmup if step < warmup else max(0.0, (total - step) / max(1, total - warmup))


# -- MedMNIST: labels have the shape (N, 1), the metrics are torchmetrics ----------------------------------------------


def picture(generator: torch.Generator, site: int) -> tuple[Tensor, Tensor]:
    """A picture of one of three classes, and its label of the shape (1,)."""
    label = torch.randint(0, 3, (1,), generator=generator)
    return torch.randn(1, 8, 8, generator=generator) + 0.4 * label[:, None, None] + 0.1 * site, label


class MedicalProject(pl.LightningModule):
    """As MedMNIST's own training, whose labels are squeezed."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
        )
        self.val_acc = MulticlassAccuracy(3, average="micro")
        self.val_auc = MulticlassAUROC(3)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        inputs, targets = batch
        return nn.functional.cross_entropy(self.net(inputs), targets.squeeze(1).long())

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        inputs, targets = batch
        logits, targets = self.net(inputs), targets.squeeze(1).long()
        self.val_acc(logits, targets)
        self.val_auc.update(logits.softmax(1), targets)
        self.log("val_acc", self.val_acc, on_step=False, on_epoch=True)
        self.log("val_auc", self.val_auc)
        loss = nn.functional.cross_entropy(logits, targets)
        self.log("val_loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "val_loss"}}


PROJECTS: dict[str, tuple[type[pl.LightningModule], Record, Any]] = {
    "monai": (SegmentationProject, scan, None),
    "transformers": (TextProject, report, pad),
    "medmnist": (MedicalProject, picture, None),
}


def project(name: str, only: str | None = None) -> tuple[pl.LightningModule, SitesData]:
    """The module and the data of a project, from the same weights each time."""
    module, make, collate = PROJECTS[name]
    pl.seed_everything(0, verbose=False)
    return module(), SitesData(make, collate, only)

"""Detection with a module of your own: torchvision's RetinaNet finds lesions on mini-MIAS mammograms, across sites.

The module knows nothing of lit_dist. Its batches are lists, as torchvision takes them: images, and dicts with boxes. At
the end of a validation it logs the average precision and the FROC score of the films that it has seen, which lit_dist
lets it do for each site. Run it with ``python examples/detection.py FOLDER``, the folder of ``README`` (the list) and
``images512/mdb001.png``. The collection comes from one hospital; here its patients are dealt to three sites.
"""

import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, read_image
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import box_iou
from torchvision.transforms.functional import resize

from lit_dist.callbacks import CyclicalWeightTransfer, SiteEvaluation
from lit_dist.datamodules.mammography.mini_mias import read_list

SIDE = 128
"""The side of the images that the network sees, in pixels."""

Target = dict[str, Tensor]


class Films(Dataset[tuple[Tensor, Target]]):
    """Films, each with the boxes around its findings; a normal film has none."""

    def __init__(self, films: list[tuple[Path, Tensor]]) -> None:
        self.films = films

    def __len__(self) -> int:
        """The number of films."""
        return len(self.films)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        """The image, float (3, height, width), and what torchvision's detectors are given with it."""
        path, boxes = self.films[index]
        image = resize(read_image(str(path), ImageReadMode.RGB), [SIDE, SIDE], antialias=True).float() / 255
        return image, {"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64)}


def collate(records: list[tuple[Tensor, Target]]) -> tuple[list[Tensor], list[Target]]:
    """Lists, since films have unlike numbers of boxes."""
    images, targets = zip(*records, strict=True)
    return list(images), list(targets)


class LesionsBySite(L.LightningDataModule):
    """One loader a site: all films with a finding whose place is known, and as many normal ones."""

    def __init__(self, folder: Path, sites: int = 3, most: int = 1000) -> None:
        super().__init__()
        findings = read_list(folder / "README")
        findings = findings[findings["x"].notna() | (findings["diagnosis"] == "normal")]
        films: dict[bool, list[tuple[int, Path, Tensor]]] = {True: [], False: []}
        for name, of_film in findings.groupby("image"):
            circles = torch.tensor(of_film[["x", "y", "radius"]].dropna().to_numpy(), dtype=torch.float32)
            centre, radius = circles[:, :2], circles[:, 2:].clamp(min=16)
            boxes = torch.cat([centre - radius, centre + radius], dim=1).clamp(0, 1024) * SIDE / 1024
            path = folder / "images512" / f"{name}.png"
            films[len(boxes) > 0].append((int(of_film["patient"].iloc[0]), path, boxes))
        kept = [film for both in zip(films[True], films[False], strict=False) for film in both][:most]
        self.films = {f"site-{n + 1}": [film for film in kept if film[0] % sites == n] for n in range(sites)}

    def _loaders(self, train: bool) -> dict[str, DataLoader[Any]]:
        """By patient: every fourth one of a site is for validation."""
        loaders = {}
        for site, films in self.films.items():
            patients = sorted({patient for patient, *_ in films})
            chosen = {patient for n, patient in enumerate(patients) if bool(n % 4) == train}
            part = [(path, boxes) for patient, path, boxes in films if patient in chosen]
            loaders[site] = DataLoader(Films(part), batch_size=8, shuffle=train, collate_fn=collate)
        return loaders

    def train_dataloader(self) -> dict[str, DataLoader[Any]]:
        """The loaders for training."""
        return self._loaders(True)

    def val_dataloader(self) -> dict[str, DataLoader[Any]]:
        """The loaders for validation, by site as well."""
        return self._loaders(False)


def backbone(width: int = 32) -> nn.Sequential:
    """Four convolutions, after which a pixel stands for 8 by 8."""
    widths = [3, width, width, 2 * width, 2 * width]
    strides = [2, 2, 2, 1]
    layers: list[nn.Module] = []
    for inputs, outputs, stride in zip(widths, widths[1:], strides, strict=False):
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1), nn.GroupNorm(8, outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class Detector(L.LightningModule):
    """A RetinaNet with a small backbone, trained from nothing."""

    def __init__(self) -> None:
        super().__init__()
        features = backbone()
        features.out_channels = 64  # type: ignore[assignment]  # as RetinaNet asks for
        self.network = RetinaNet(
            features,
            num_classes=2,
            min_size=SIDE,
            max_size=SIDE,
            anchor_generator=AnchorGenerator(((8, 16, 32),), ((1.0,),)),
            score_thresh=0.01,
            detections_per_img=20,
        )
        self.found: list[tuple[Tensor, Tensor, Tensor]] = []

    def training_step(self, batch: tuple[list[Tensor], list[Target]], batch_idx: int) -> Tensor:
        """The sum of RetinaNet's losses."""
        images, targets = batch
        losses = self.network(images, targets)
        self.log("train_loss", sum(losses.values()), batch_size=len(images))
        return torch.stack([*losses.values()]).sum()

    def validation_step(self, batch: tuple[list[Tensor], list[Target]], batch_idx: int) -> None:
        """Keep what is found, and what there is."""
        images, targets = batch
        for found, truth in zip(self.network(images), targets, strict=True):
            self.found.append((found["boxes"], found["scores"], truth["boxes"]))

    def on_validation_epoch_end(self) -> None:
        """Log the average precision and the FROC score of these films."""
        self.log_dict({"val_ap": average_precision(self.found), "val_froc": froc(self.found)})
        self.found.clear()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def hits(found: list[tuple[Tensor, Tensor, Tensor]], least: float) -> tuple[Tensor, Tensor]:
    """Of all detections, the best first: the score, and whether it is the first to hit a lesion (IoU)."""
    scores, first = [torch.empty(0)], [torch.empty(0, dtype=torch.bool)]
    for boxes, score, truth in found:
        taken: set[int] = set()
        order = score.argsort(descending=True)
        is_hit = []
        for overlap in box_iou(boxes[order], truth) if len(truth) else []:
            best = int(overlap.argmax())
            is_hit.append(bool(overlap[best] >= least) and best not in taken)
            taken |= {best} if is_hit[-1] else set()
        scores.append(score[order].cpu())
        first.append(torch.tensor(is_hit if len(truth) else [False] * len(order), dtype=torch.bool))
    together = torch.cat(scores).argsort(descending=True, stable=True)
    return torch.cat(scores)[together], torch.cat(first)[together]


def average_precision(found: list[tuple[Tensor, Tensor, Tensor]], least: float = 0.3) -> float:
    """The area under precision by recall; 0 where there is no lesion or nothing is found."""
    lesions = sum(len(truth) for *_, truth in found)
    _, hit = hits(found, least)
    if not lesions or not len(hit):
        return 0.0
    right = hit.cumsum(0)
    precision = right / torch.arange(1, len(hit) + 1)
    envelope = precision.flip(0).cummax(0).values.flip(0)
    return float((envelope * hit).sum() / lesions)


def froc(found: list[tuple[Tensor, Tensor, Tensor]], least: float = 0.3) -> float:
    """The mean share of lesions found at 1/4, 1/2, 1, 2 and 4 false marks a film."""
    lesions = sum(len(truth) for *_, truth in found)
    _, hit = hits(found, least)
    if not lesions:
        return 0.0
    false_marks = (~hit).cumsum(0) / len(found)
    shares = [float((hit & (false_marks <= rate)).sum()) / lesions for rate in (0.25, 0.5, 1, 2, 4)]
    return sum(shares) / len(shares)


def main(folder: Path, cycles: int = 20, most: int = 1000) -> L.Trainer:
    """Let the model go from site to site, and see after each cycle what it finds at each."""
    L.seed_everything(0, verbose=False)
    data = LesionsBySite(folder, most=most)
    trainer = L.Trainer(
        max_epochs=cycles * len(data.films),
        callbacks=[
            CyclicalWeightTransfer(every_n_epochs=1, optimizer_state="carry", validation="cycle"),
            SiteEvaluation(metric="froc"),
        ],
        accelerator="cpu",
        log_every_n_steps=1,
        default_root_dir="runs/detection",
        enable_progress_bar=False,
    )
    trainer.fit(Detector(), data)
    return trainer


if __name__ == "__main__":
    found = main(Path(sys.argv[1]), *map(int, sys.argv[2:])).callback_metrics
    print(", ".join(f"{name} {float(value):.3f}" for name, value in found.items() if name.startswith("val_")))

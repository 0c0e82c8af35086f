"""Programs: trained networks as torch alone runs them, from what goes in to what ``predict`` gives."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from lit_dist.datamodules.frozen_encoder import FrozenEncoder
from lit_dist.datamodules.images.datamodule import ImageDataModule
from lit_dist.datamodules.table_columns import CODES
from lit_dist.datamodules.tabular import TabularDataModule
from lit_dist.models.image_module import ImageModule
from lit_dist.models.norm_statistics import norms_of
from lit_dist.models.tabular_predictor import TabularPredictor
from lit_dist.runs.trained import TrainedRun
from lit_dist.tasks.task import Task
from lit_dist.utils.atomic_write import replacing
from lit_dist.utils.errors import InputError

_CODE = (
    f"of a category's text, int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], 'big') % {CODES}; a number"
    " without a fraction is written without a point; a code that is not known counts as none"
)


@dataclass(frozen=True)
class Exported:
    """What is exported of a run.

    Attributes:
        program: From what goes in to predictions; its first argument is called ``inputs``.
        example: Two records that may go in.
        weights: The tensors by name.
        inputs: What the card says of what goes in.
        network: What it says of the network.
    """

    program: nn.Module
    example: Tensor
    weights: Mapping[str, Tensor]
    inputs: Mapping[str, Any]
    network: Mapping[str, Any]


def exported(run: TrainedRun) -> Exported:
    """What is exported of a run of images or of a table; ``InputError`` if its model is neither's."""
    module, data = run.module, run.data
    if isinstance(module, ImageModule) and isinstance(data, ImageDataModule):
        return _of_images(run, module, data)
    if isinstance(module, TabularPredictor) and isinstance(data, FrozenEncoder):
        return _of_features(module, data)
    if isinstance(module, TabularPredictor) and isinstance(data, TabularDataModule):
        return _of_table(run, module)
    raise InputError(
        f"{type(module).__name__} with {type(data).__name__} is not a network of images or of a table by lit_dist;"
        " export it as torch does"
    )


def save(each: Exported, path: Path) -> None:
    """Write a program, for any number of records."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own parts, which nobody here can do anything about
        made = torch.export.export(
            each.program, (each.example,), dynamic_shapes={"inputs": {0: torch.export.Dim("records")}}
        )
        with replacing(path) as file:
            torch.export.save(made, file)


class ImageProgram(nn.Module):
    """A network with what its datamodule does to images before, and its task to outputs behind.

    It takes prepared images, uint8, (images, 3, height, width), and gives what ``predict`` does.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, network: nn.Module, task: Task, data: ImageDataModule) -> None:
        super().__init__()
        self.network = network
        self.task = task
        black, white = (data.normalise(torch.full((1, 3, 1, 1), value, dtype=torch.uint8)) for value in (0, 255))
        self.register_buffer("scale", (white - black) / 255)
        self.register_buffer("offset", black)

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        return self.task.predictions(self.network(inputs.float() * self.scale + self.offset))


class EncodedHead(nn.Module):
    """A frozen network, and a head on its vectors."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    @override
    def forward(self, images: Tensor) -> Tensor:
        vectors: Tensor = self.encoder(images)
        outputs: Tensor = self.head(vectors.reshape(*vectors.shape[:2], -1).mean(dim=2))
        return outputs


class TableProgram(nn.Module):
    """A network of a table's rows, with its preparation before and its task behind.

    It takes raw values, float32, (records, columns), NaN where one is missing, and gives what ``predict`` does.
    """

    def __init__(self, module: TabularPredictor) -> None:
        super().__init__()
        self.network = module

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        return self.network.task.predictions(self.network(inputs))


def _of_images(run: TrainedRun, module: ImageModule, data: ImageDataModule) -> Exported:
    inputs, example = _images(data)
    backbone = run.settings["model"].get("init_args", {}).get("backbone")
    network = {"backbone": backbone, "batch_normalisation": bool(norms_of(module)), "parameters": _count(module)}
    program = ImageProgram(module.backbone, module.task, data)
    return Exported(program.eval(), example, module.backbone.state_dict(), inputs, network)


def _of_features(module: TabularPredictor, data: FrozenEncoder) -> Exported:
    inputs, example = _images(data.images)
    both = EncodedHead(data.encoder, module)
    network: dict[str, Any] = {"backbone": None, "encoder": data.architecture, "encoder_sha256": data.sha256}
    network |= {"batch_normalisation": False, "parameters": _count(both)}
    program = ImageProgram(both, module.task, data.images)
    return Exported(program.eval(), example, both.state_dict(), inputs, network)


def _images(data: ImageDataModule) -> tuple[dict[str, Any], Tensor]:
    """What the card says of images that go in, and two of them."""
    size = getattr(data, "size", None)
    side = size or "side"
    normalised = data.normalise(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1))
    inputs = {
        "images": f"uint8, (images, 3, {side}, {side}), RGB",
        "prepared_by": data.method() or type(data).__name__,
        "black_becomes": [round(value, 6) for value in normalised[0].flatten().tolist()],
        "white_becomes": [round(value, 6) for value in normalised[1].flatten().tolist()],
    }
    return inputs, torch.zeros(2, 3, size or 224, size or 224, dtype=torch.uint8)


def _of_table(run: TrainedRun, module: TabularPredictor) -> Exported:
    preparation = module.preparation
    numeric, categorical = (run.columns(name) for name in ("numeric", "categorical"))
    inputs: dict[str, Any] = {
        "values": f"float32, (records, {len(numeric) + len(categorical)}), in the order of the columns; raw, NaN where"
        " one is missing",
        "numeric_columns": numeric,
        "columns_of_categories": categorical,
    }
    if categorical:
        known = [[code for code in codes if code >= 0] for codes in preparation.codes.tolist()]
        inputs |= {"codes": _CODE, "known_codes": dict(zip(categorical, known, strict=True))}
    if run.standardised:
        inputs["standardised"] = "each site's numeric columns by its own records first, minus mean, by deviation"
    layers = [each.out_features for each in module.network if isinstance(each, nn.Linear)]
    network = {"backbone": None, "batch_normalisation": False, "layers": layers, "parameters": _count(module)}
    example = torch.zeros(2, len(numeric) + len(categorical))
    return Exported(TableProgram(module).eval(), example, module.state_dict(), inputs, network)


def _count(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())

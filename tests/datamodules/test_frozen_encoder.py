"""FrozenEncoder: images become vectors once, whoever asks, and all else is as with any records."""

import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from lightning.pytorch import LightningModule
from PIL import Image

from contract import Make, RecordContract, once
from lit_dist import TabularPredictor
from lit_dist.callbacks import CyclicalWeightTransfer
from lit_dist.datamodules import (
    EqualPartition,
    FrozenEncoder,
    PhantomDataModule,
    SiteDataModule,
    SizePartition,
    TabularDataModule,
)
from lit_dist.models.frozen_backbone import FrozenBackbone
from lit_dist.runs.lightning_cli import fit
from lit_dist.utils.errors import InputError
from small import trainer
from small_encoder import ARCHITECTURE, encoder, photographs, weights, write_weights
from small_tables import write_patients

PATH = once(write_weights) / "weights.safetensors"


class TestContract(RecordContract):
    @staticmethod
    def model(data: SiteDataModule) -> LightningModule:
        return TabularPredictor(num_classes=data.num_classes, numeric=512, hidden=[])

    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        return encoder


def ready(data: FrozenEncoder) -> FrozenEncoder:
    data.prepare_data()
    data.setup("fit")
    return data


class Counted(FrozenBackbone):
    """Counts the images that go through, and the threads of each."""

    images = 0
    threads: ClassVar[set[int]] = set()

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        Counted.images += 1
        Counted.threads.add(torch.get_num_threads())
        return super().__call__(image)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> type[Counted]:
    monkeypatch.setattr("lit_dist.datamodules.frozen_encoder.FrozenBackbone", Counted)
    Counted.images = 0
    Counted.threads.clear()
    return Counted


def test_a_record_is_what_the_network_makes_of_its_normalised_image() -> None:
    data, images = ready(encoder(batch_size=100)), photographs()
    images.prepare_data()
    loader, expected = data.test_dataloader()["site-1"], images.test_dataloader()["site-1"]
    assert loader.dataset.table["image"].tolist() == expected.dataset.table["image"].tolist()
    (vectors, targets), (pixels, labels) = next(iter(loader)), next(iter(expected))
    backbone = FrozenBackbone(ARCHITECTURE, PATH)
    assert torch.equal(vectors, torch.stack([backbone(each) for each in images.normalise(pixels)]))
    assert (vectors.dtype, vectors.shape[1], len(data.numeric_columns)) == (torch.float32, 512, 512)
    assert torch.equal(targets, labels[: len(targets)])


def test_a_second_run_encodes_nothing_nor_does_one_of_other_sites(tmp_path: Path, counted: type[Counted]) -> None:
    first = ready(encoder(cache_dir=tmp_path))
    number = counted.images
    assert number == len(first.table)
    second = ready(encoder(cache_dir=tmp_path, sites=2, split_seed=3, centralized=True))
    third = encoder(cache_dir=tmp_path)
    third.setup("fit")  # of another process, after the first one has prepared
    assert counted.images == number
    assert torch.equal(first._vectors(), second._vectors())
    assert torch.equal(first._vectors(), third._vectors())


def test_each_image_is_encoded_in_one_thread_so_that_no_number_of_cores_shows(
    tmp_path: Path, counted: type[Counted]
) -> None:
    torch.set_num_threads(2)
    found = ready(encoder(cache_dir=tmp_path))._vectors()
    assert (counted.threads, torch.get_num_threads()) == ({1}, 2)
    torch.set_num_threads(1)
    assert torch.equal(found, ready(encoder())._vectors())


def test_what_changes_pixels_or_weights_is_encoded_anew(tmp_path: Path, counted: type[Counted]) -> None:
    def encoded(**settings: Any) -> int:
        before = counted.images
        ready(encoder(**{"cache_dir": tmp_path, **settings}))
        return counted.images - before

    assert encoded() == encoded(images=photographs(size=40)) == encoded(images=photographs(mean=(0.4, 0.4, 0.4))) == 70
    assert encoded(images=photographs(degrade={"site-1": 4})) in range(1, 70), "of one site, but for the test"
    root = shutil.copytree(photographs().labels.parent, tmp_path / "root")
    name = str(next(path for path in (root / "train").iterdir() if path.name.startswith("0_left")))
    Image.fromarray(np.roll(np.asarray(Image.open(name)), 7, axis=0)).save(name)
    assert encoded(images=photographs(root=root)) == 1
    other = {name: value * 1.01 for name, value in weights().items()}
    safetensors.torch.save_file(other, tmp_path / "other.safetensors")
    assert encoded(weights=tmp_path / "other.safetensors") == 70
    assert encoded() == 0


def test_what_is_not_encoded_yet_is_said(tmp_path: Path) -> None:
    photographs().prepare_data()
    with pytest.raises(InputError, match=r"call prepare_data\(\) first"):
        encoder(cache_dir=tmp_path).setup("fit")


@pytest.mark.parametrize(
    "settings",
    [
        {"sites": 3},
        {"sites": ["a"]},
        {"centralized": True},
        {"only_site": "site-1"},
        {"val_fraction": 0.0},
        {"test_fraction": 0.3},
        {"splits": "splits.csv"},
        {"split_seed": 2},
        {"allow_one_class": True},
        {"external": ["site-1"]},
        {"partition": SizePartition([1, 2, 3, 4])},
    ],
)
def test_sites_of_the_images_are_refused_for_they_are_settings_of_the_encoder(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"images sets (a )?{next(iter(settings))}"):
        encoder(photographs(**settings))


def test_usual_settings_of_the_images_may_be_written_out() -> None:
    usual = {"sites": 4, "val_fraction": 0.15, "partition": EqualPartition(), "external": [], "splits": None}
    assert ready(encoder(photographs(**usual), sites=2)).sites == ["site-1", "site-2"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architecture": "squeezenet"}, "no classification network 'squeezenet'"),
        ({"weights": "nowhere.safetensors"}, "nowhere.safetensors cannot be read"),
        ({"weights": "."}, "is a folder, not a file"),
        ({"sha256": "0" * 64}, "has the SHA-256"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_refused_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        encoder(**settings)


def test_a_table_is_refused_as_images() -> None:
    table = TabularDataModule("patients.csv", "ill", root=once(write_patients), classes=["no", "yes"])
    with pytest.raises(InputError, match="images is a TabularDataModule"):
        encoder(table)


def test_weights_of_another_network_are_refused_before_images_are_prepared(tmp_path: Path) -> None:
    data = encoder(photographs(cache_dir=tmp_path), architecture="resnet18")
    with pytest.raises(InputError, match="does not fit this network"):
        data.prepare_data()
    assert not list(tmp_path.iterdir())


def test_damaged_images_are_left_out_and_counted(tmp_path: Path) -> None:
    root = shutil.copytree(photographs().labels.parent, tmp_path / "root")
    next((root / "train").glob("0_left*")).write_bytes(b"no image")
    with pytest.warns(UserWarning, match="1 images are left out"):
        data = ready(encoder(photographs(root=root, cache_dir=tmp_path, on_error="skip")))
    assert len(data.table) == len(data._vectors()) == 69
    assert {"not readable", "of grade 1 (task=referable)"} == {reason for _, reason in data.left_out_of}


def test_images_in_memory_are_encoded_too() -> None:
    data = ready(encoder(PhantomDataModule(patients=20, size=32), sites=2, batch_size=5))
    assert data.sites == ["site-1", "site-2"]
    assert next(iter(data.train_dataloader()["site-2"]))[0].shape == (5, 512)


def test_a_head_learns_from_yaml_and_only_the_head_is_in_the_checkpoint(tmp_path: Path) -> None:
    images = photographs()
    init = {"root": str(images.labels.parent), "radius": 30, "size": 32, "cache_dir": str(images.cache_dir)}
    config = {
        "model": {"class_path": "TabularPredictor", "init_args": {"num_classes": 2, "numeric": 512, "hidden": []}},
        "data": {
            "class_path": "FrozenEncoder",
            "init_args": {
                "images": {"class_path": "FundusDataModule", "init_args": init},
                "architecture": ARCHITECTURE,
                "weights": str(PATH),
                "batch_size": 8,
            },
        },
        "trainer": {
            "max_epochs": 4,
            "accelerator": "cpu",
            "logger": False,
            "enable_progress_bar": False,
            "callbacks": [{"class_path": "CyclicalWeightTransfer", "init_args": {"every_n_epochs": 1}}],
        },
    }
    Path("config.yaml").write_text(json.dumps(config))
    done = fit(["--config", "config.yaml", "--data.sites", "2"])
    assert sum(value.numel() for value in done.model.parameters()) == 2 * 512 + 2
    assert done.datamodule.sites == ["site-1", "site-2"]
    assert len(pd.read_csv("splits.csv")) == 70


def test_a_model_of_another_number_of_values_is_refused() -> None:
    run = trainer(CyclicalWeightTransfer(every_n_epochs=1), max_epochs=1)
    with pytest.raises(InputError, match="set numeric=512 of the model"):
        run.fit(TabularPredictor(num_classes=2, numeric=511), encoder())

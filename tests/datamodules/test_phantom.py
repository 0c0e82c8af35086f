from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from contract import DataModuleContract, Make
from lit_dist import ImageClassifier
from lit_dist.datamodules import PhantomDataModule
from lit_dist.utils.errors import InputError


class TestPhantomDataModule(DataModuleContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        def build(**settings: Any) -> PhantomDataModule:
            return PhantomDataModule(**{"patients": 40, "size": 32, **settings})

        return build


def test_named_sites_and_looks_of_their_own() -> None:
    data = PhantomDataModule(sites=["mgh", "ucsf"], patients=20, size=32)
    data.setup("fit")
    assert data.sites == ["mgh", "ucsf"]
    pixels, slots = data.pixels(data.table)
    means = [
        np.mean([pixels[slot] for slot in slots[data.table["site"] == site]], axis=(0, 1, 2)) for site in data.sites
    ]
    assert np.abs(means[0] - means[1]).max() > 3


def test_ten_sites_stay_in_their_order() -> None:
    assert PhantomDataModule(sites=11, patients=12).sites == [f"site-{number}" for number in range(1, 12)]


def test_half_of_the_images_are_referable() -> None:
    table = PhantomDataModule(patients=100).table
    assert table["label"].mean() == pytest.approx(0.5)
    assert set(table["grade"]) == {0, 2, 3, 4}


@pytest.mark.parametrize("settings", [{"patients": 3}, {"size": 16}, {"size": 2000}])
def test_refused_settings(settings: dict[str, int]) -> None:
    with pytest.raises(InputError, match="must be"):
        PhantomDataModule(**settings)


def test_several_sites_without_a_callback_that_visits_them_are_refused() -> None:
    data = PhantomDataModule(sites=["mgh", "ucsf"], patients=20, size=32)
    trainer = Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, barebones=True)
    with pytest.raises(InputError, match=r"records of several sites \(mgh, ucsf\); add CyclicalWeightTransfer"):
        trainer.fit(ImageClassifier("slim_resnet18"), data)


def test_drawings_are_kept_and_what_is_damaged_is_drawn_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(**settings: int) -> np.ndarray[Any, Any]:
        data = PhantomDataModule(**{"sites": 2, "patients": 20, "size": 32, **settings})
        return np.array(data.pixels(data.table)[0])

    first = drawn()
    [path] = (tmp_path / "cache" / "lit_dist" / "phantoms").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr("lit_dist.datamodules.phantom.draw_phantom", None)
        assert np.array_equal(drawn(), first)
        for settings in ({"seed": 1}, {"size": 33}, {"patients": 24}):
            with pytest.raises(TypeError, match="not callable"):
                drawn(**settings)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert np.array_equal(drawn(), first)
    assert path.read_bytes() == content
    path.unlink()
    path.parent.rmdir()
    path.parent.write_text("in the way")
    assert np.array_equal(drawn(), first)


def test_no_process_is_left_with_a_single_image(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, answer in (("is_initialized", True), ("get_world_size", 2), ("get_rank", 0)):
        monkeypatch.setattr(torch.distributed, name, lambda answer=answer: answer)
    data = PhantomDataModule(sites=1, patients=66, size=32, batch_size=32, val_fraction=0, test_fraction=0)
    data.setup("fit")
    loader = data.train_dataloader()["site-1"]
    assert (len(loader.dataset), len(loader.sampler)) == (66, 33)
    assert [len(labels) for _, labels in loader] == [32]

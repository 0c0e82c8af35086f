"""What is predicted of new records: by a head on frozen features, by modules of one's own, and of too little."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from lit_dist import InputError, TabularPredictor
from lit_dist.datamodules import TabularDataModule
from lit_dist.datamodules.images.new_images import new_images
from lit_dist.export.programs import exported
from lit_dist.runs.new_predictions import predict_images, predict_table, table_of
from lit_dist.runs.site_layers import check_choice, spread
from lit_dist.runs.trained import TrainedRun
from small import trainer
from small_encoder import encoder, photographs
from small_tables import write_patients


def run_of(module: pl.LightningModule, data: Any, **signature: Any) -> TrainedRun:
    given = {"folder": Path(), "settings": {"data": {}}, "checkpoint": None, "task": None, "statistics": None}
    own = {**data.signature(), **signature}
    return TrainedRun(module=module.eval(), data=data, trainer=trainer(), signature=own, **{**given})  # type: ignore[arg-type]


class Brightness(pl.LightningModule):
    """A module of somebody's own, whose step takes the batch alone, and which says nothing of a task."""

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.shape = shape

    def predict_step(self, batch: Any) -> Tensor:
        images, _ = batch
        return self.norm(images).mean(dim=(1, 2, 3)).reshape(-1, *self.shape)


def test_a_head_on_frozen_features_takes_images_in_a_program_too(tmp_path: Path) -> None:
    data = encoder(sites=2)
    data.prepare_data()
    pl.seed_everything(0, verbose=False)
    head = TabularPredictor(num_classes=2, numeric=512, hidden=[])
    dataset = data.dataset(["site-1"], "test")
    (tmp_path / "new").mkdir()
    for path in dataset.table["path"]:
        shutil.copy(str(path), tmp_path / "new")
    run = run_of(head, data)
    found = predict_images(run, new_images(tmp_path / "new"), None, False).table.set_index("image")
    expected = head.predict_step(dataset.values, 0)[:, 1].tolist()
    names = [Path(str(path)).name for path in dataset.table["path"]]
    assert found.loc[names, "probability_1"].tolist() == pytest.approx(expected, abs=1e-6)
    images = data.images.dataset(["site-1"], "test").__getitems__(range(len(names)))[0]
    assert exported(run).program(images)[:, 1].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_module_of_ones_own_predicts_what_it_likes_one_row_an_image(tmp_path: Path) -> None:
    data = photographs(sites=2)
    folder = data.images
    shutil.copytree(folder, tmp_path / "new")
    for number, path in enumerate(sorted((tmp_path / "new").iterdir())):
        if number > 4:
            path.unlink()
    found = predict_images(run_of(Brightness(), data), new_images(tmp_path / "new"), None, False)
    assert list(found.table) == ["image", "value", "problem"]
    estimated = predict_images(run_of(Brightness(), data), new_images(tmp_path / "new"), None, True)
    assert estimated.table["value"].mean() == pytest.approx(0, abs=1e-4), "normalised by these images themselves"
    assert abs(found.table["value"].mean()) > 0.01
    with pytest.raises(InputError, match=r"Brightness predicts \(1, 5\) of 5 records: let its predict_step give one"):
        predict_images(run_of(Brightness((5,)), data), new_images(tmp_path / "new"), None, False)


def test_what_is_no_number_is_a_problem_and_no_class(tmp_path: Path) -> None:
    run = run_of(Brightness(), photographs())
    predictions = torch.tensor([[0.5, 0.5], [torch.nan, 0.0], [0.25, 0.75]])
    found = table_of(run, pd.DataFrame({"image": list("abcd")}), ["", "gone", "", ""], [0, 2, 3], predictions, "").table
    assert found["problem"].tolist() == ["", "gone", "what the model gives for it is not a number", ""]
    assert found["probability_1"].fillna(-1).tolist() == [0.5, -1, -1, 0.75]


def test_images_that_another_release_prepared_otherwise_are_refused(tmp_path: Path) -> None:
    run = run_of(Brightness(), photographs(), preparation={"method": "graham", "version": 0})
    with pytest.raises(InputError, match=r"were prepared by .*'version': 0.*use the release of lit_dist that trained"):
        predict_images(run, new_images(photographs().images), None, False)


def test_without_batch_normalisation_there_is_nothing_to_estimate() -> None:
    with pytest.raises(InputError, match="there is nothing to estimate"):
        check_choice(run_of(TabularPredictor(numeric=2, num_classes=2), photographs()), None, True)


def test_a_table_standardised_by_site_is_so_by_its_own_records_and_only_if_asked_to(tmp_path: Path) -> None:
    write_patients(tmp_path / "patients")
    data = TabularDataModule(
        *("patients.csv", "ill", tmp_path / "patients"), classes=["no", "yes"], features=["weight", "height"]
    )
    module = TabularPredictor(num_classes=2, numeric=2, hidden=[])
    run = replace(run_of(module, data), settings={"data": {"init_args": {"standardise_sites": True}}})
    (tmp_path / "new.csv").write_text("weight,height\n70,150\n80,\n90,190\n")
    with pytest.raises(InputError, match="take --statistics estimate, which does so by the records of this table"):
        predict_table(run, tmp_path / "new.csv", None, False)
    found = predict_table(run, tmp_path / "new.csv", None, True)
    assert found.statistics == "columns standardised by these 3 records"
    standard = torch.tensor([[-(1.5**0.5), -1.0], [0.0, torch.nan], [1.5**0.5, 1.0]])
    expected = module.predict_step(standard, 0)[:, 1]
    assert found.table["probability_1"].tolist() == pytest.approx(expected.tolist(), abs=1e-6)


def test_a_sample_is_of_all_over() -> None:
    assert spread(100, 3) == [0, 50, 99]
    assert spread(0, 3) == []
    assert sorted({*spread(65, 64)}) == sorted(spread(65, 64))
    assert torch.tensor(spread(1, 5)).tolist() == [0]

"""TabularPredictor: what it learns of columns before it trains, and that it trains in any unit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, seed_everything
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from contract import once
from lit_dist import TabularPredictor
from lit_dist.callbacks import CyclicalWeightTransfer, RunCheckpoint
from lit_dist.checkpoints.run_folder import newest_checkpoint
from lit_dist.datamodules import TabularDataModule
from lit_dist.models.learn_preparation import learn_preparation
from lit_dist.utils.errors import InputError
from lit_dist.visits.site_loader import SiteLoader
from small import trainer
from small_tables import write_patients

MODEL: dict[str, Any] = {"numeric": 3, "categorical": 1, "num_classes": 2, "least": 2}


def patients(**settings: Any) -> TabularDataModule:
    features = ["weight", "height", "smoker", "blood"]
    named = {"id_column": "id", "patient_column": "patient", "site_column": "hospital"}
    given = {"target": "ill", "classes": ["no", "yes"], "features": features, "categorical": ["blood"], **named}
    return TabularDataModule("patients.csv", root=once(write_patients), **{**given, **settings})


def fitted(data: Any, module: LightningModule | None = None, transfer: bool = True, **kwargs: Any) -> TabularPredictor:
    seed_everything(0, verbose=False)
    module = module or TabularPredictor(**MODEL)
    callbacks = [CyclicalWeightTransfer(every_n_epochs=1)] if transfer else []
    trainer(*callbacks, **{"max_epochs": 3, **kwargs}).fit(module, data)
    assert isinstance(module, TabularPredictor)
    return module


def test_the_preparation_is_learnt_from_all_sites_training_records_and_no_others() -> None:
    data = patients()
    module = fitted(data)
    pool = torch.cat([data.dataset([site], "train").values for site in data.sites]).double()
    weight = pool[:, 0][pool[:, 0].isfinite()]
    assert module.preparation.records == len(pool)
    assert module.preparation.mean[0].item() == pytest.approx(weight.mean().item())
    assert module.preparation.scale[0].item() == pytest.approx(1 / weight.std(correction=0).item())
    assert set(module.preparation.codes[0].tolist()) - {-1} == set(pool[:, 3][pool[:, 3].isfinite()].long().tolist())
    assert module.estimated is not None
    assert module.estimated.sites == data.sites
    assert sum(module.estimated.records) == len(pool)


def test_a_pool_learns_the_same_and_one_site_alone_its_own() -> None:
    together, pool = fitted(patients()), fitted(patients(centralized=True), transfer=False)
    assert torch.allclose(together.preparation.mean, pool.preparation.mean)
    assert torch.equal(together.preparation.codes.sort().values, pool.preparation.codes.sort().values)
    alone = fitted(patients(only_site="b"), transfer=False)
    assert alone.preparation.records == len(patients().dataset(["b"], "train"))
    assert not torch.allclose(alone.preparation.mean, pool.preparation.mean)


def test_it_is_learnt_once_and_loaded_with_the_weights(tmp_path: Path) -> None:
    module = TabularPredictor(**MODEL)
    run = trainer(CyclicalWeightTransfer(every_n_epochs=1), RunCheckpoint(), max_epochs=3, default_root_dir=tmp_path)
    run.fit(module, patients())
    path = newest_checkpoint(tmp_path)
    assert path is not None
    loaded = TabularPredictor.load_from_checkpoint(path)
    assert torch.equal(loaded.preparation.mean, module.preparation.mean)
    assert fitted(patients(only_site="b"), loaded, transfer=False).estimated is None
    assert torch.equal(loaded.preparation.mean, module.preparation.mean)


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
def test_an_age_is_learnt_at_once_and_in_any_unit() -> None:
    inputs = torch.randn(120, 2, generator=torch.Generator().manual_seed(0)) * 100
    years = 60 + inputs[:, 0] / 10

    def learnt(ages: torch.Tensor) -> TabularPredictor:
        seed_everything(0, verbose=False)
        module = TabularPredictor("regression", numeric=2, hidden=[], optimizer=_sgd)
        loader = DataLoader(TensorDataset(inputs, ages), batch_size=10)
        return fitted(SiteLoader({"a": loader, "b": loader}), module, max_epochs=2)

    of_years, of_days = learnt(years), learnt(365 * years)
    error = (of_years(inputs).flatten() - years).abs().mean().item()
    assert error < 1
    assert (of_days(inputs).flatten() - 365 * years).abs().mean().item() == pytest.approx(365 * error, rel=1e-3)


def _sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


@pytest.mark.parametrize(("task", "classes"), [("survival", None), ("multilabel", 2), ("ordinal", 3)])
def test_it_trains_for_each_task(task: Any, classes: int | None) -> None:
    targets = {"survival": ["years", "event"], "multilabel": ["cough", "fever"], "ordinal": "grade"}
    names = {"survival": None, "multilabel": ["cough", "fever"], "ordinal": ["0", "1", "2"]}
    data = patients(task=task, target=targets[task], classes=names[task])
    module = fitted(data, TabularPredictor(**{**MODEL, "task": task, "num_classes": classes, "indicators": True}))
    run = trainer()
    [first, *_] = run.test(module, data, verbose=False)
    assert first["test_loss"] < float("inf")
    assert run.predict(module, data) is not None


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
def test_loaders_by_site_without_a_datamodule_will_do_and_others_are_named() -> None:
    rows = torch.randn(20, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1] * 10)
    loaders = {site: DataLoader(TensorDataset(*rows), batch_size=5, shuffle=True) for site in "ab"}
    module = fitted(SiteLoader(loaders), TabularPredictor(num_classes=2, numeric=2), max_epochs=2)
    assert module.preparation.mean.tolist() == pytest.approx(rows[0].mean(dim=0).tolist(), abs=1e-6)

    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter([])

    with pytest.raises(InputError, match="not from a list"):
        fitted([rows], TabularPredictor(num_classes=2, numeric=2), transfer=False)
    with pytest.raises(InputError, match="dataset with indices, not from a DataLoader"):
        fitted(DataLoader(Stream()), TabularPredictor(num_classes=2, numeric=2), transfer=False)
    alone = DataLoader(TensorDataset(rows[0]))
    with pytest.raises(InputError, match=r"takes batches \(inputs, targets\)"):
        fitted(alone, TabularPredictor(num_classes=2, numeric=2), transfer=False)


def test_learning_it_draws_from_no_generator() -> None:
    module = TabularPredictor(**MODEL)
    run = trainer(max_epochs=1)
    run.fit(module, patients(centralized=True))
    module.preparation.records.zero_()
    before = torch.get_rng_state()
    assert learn_preparation(run, module.preparation) is not None
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"numeric": 2}, "the data has 3 numeric columns, and the model is for 2: set numeric=3"),
        ({"categorical": 0}, "the data has 1 categorical columns, and the model is for 0: set categorical=1"),
        ({"num_classes": 3}, "set num_classes=2"),
        ({"least": 1000}, "set least of the model to a smaller number"),
    ],
)
def test_a_fit_that_does_not_fit_the_data_says_what_to_set(settings: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fitted(patients(), TabularPredictor(**{**MODEL, **settings}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": [0]}, "hidden=\\[0\\]"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"numeric": 0, "categorical": 0}, "give one at least"),
        ({"task": "grading"}, "grading"),
    ],
)
def test_refused_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TabularPredictor(**{**MODEL, **settings})

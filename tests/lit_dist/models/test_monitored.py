from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from lit_dist import ImageClassifier
from lit_dist.callbacks import CyclicalWeightTransfer, SingleWeightTransfer, SiteEvaluation
from lit_dist.datamodules import PhantomDataModule
from lit_dist.models.monitored import check_monitors, monitors, refuse_unpooled
from lit_dist.tasks.classification import Classification
from lit_dist.tasks.regression import Regression
from lit_dist.utils.errors import InputError
from small import trainer

LABELS = {"a": [0, 0, 1], "b": [0, 0], "c": [], "d": [1]}
NAMES = ("well", "ill")


def check(callback: Callback, labels: dict[str, list[int]] = LABELS, **settings: Any) -> None:
    check_monitors(trainer(callback, **settings), labels, Classification(NAMES))


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (
            EarlyStopping("val_auroc/b", mode="max"),
            "EarlyStopping monitors 'val_auroc/b', .* the 2 validation records of site 'b'",
        ),
        (
            ModelCheckpoint(monitor="val_auroc/b", mode="max"),
            "ModelCheckpoint monitors .* are all of the class 'well'. Monitor val",
        ),
        (
            SingleWeightTransfer("val_auroc/{site}", mode="max"),
            "SingleWeightTransfer monitors 'val_auroc/b', which is not defined",
        ),
        (EarlyStopping("val_auroc/d", mode="max"), "all of the class 'ill'"),
        (EarlyStopping("val_loss/c"), "'val_loss/c', which takes validation records of site 'c', but there are none"),
    ],
)
def test_a_metric_that_means_nothing_is_refused_by_name_and_site(callback: Callback, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(callback)


def test_of_all_sites() -> None:
    one = {"a": [0, 0], "b": [0]}
    with pytest.raises(InputError, match="the 3 validation records of all sites are all of the class 'well'"):
        check(EarlyStopping("val_auroc", mode="max"), one)
    with pytest.raises(InputError, match="of all sites, but there are none: raise"):
        check(EarlyStopping("val_loss"), {"a": [], "b": []})
    with pytest.raises(InputError, match="limit_val_batches=0"):
        check(EarlyStopping("val_loss"), limit_val_batches=0)
    with pytest.raises(InputError, match="of site 'a', but there are none"):
        check(EarlyStopping("val_my_own"), {"a": []})


@pytest.mark.parametrize(
    ("name", "labels", "message"),
    [
        ("val_majority_rate", {"a": [1, 1]}, "always guesses it is taken for the best one"),
        ("val_loss/b", LABELS, "are all of the class 'well'"),
        ("val_loss/d", LABELS, "the 1 validation records of site 'd'"),
    ],
)
def test_a_metric_that_means_little_is_warned_of(name: str, labels: dict[str, list[int]], message: str) -> None:
    with pytest.warns(UserWarning, match=message):
        check(EarlyStopping(name), labels)


def test_an_evaluation_of_sites_without_an_auroc_is_warned_of() -> None:
    with pytest.warns(
        UserWarning, match="SiteEvaluation evaluates the AUROC, .* of one class: b, c, d; metric=accuracy"
    ):
        check(SiteEvaluation(metric="auroc"))
    check(SiteEvaluation(metric="auroc", every="off"))


def test_what_means_something_is_left_alone() -> None:
    for name in ("val_auroc", "val_auroc/a", "val_majority_rate", "train_accuracy", "val_auroc/nobody", "val_my_own"):
        check(EarlyStopping(name, mode="max"))
    for name in ("val_loss", "val_my_other", "train_loss", "val_majority_rate", "val_my_own"):
        check(EarlyStopping(name))


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (ModelCheckpoint(monitor="val_accuracy"), "ModelCheckpoint monitors 'val_accuracy' with mode=min.* mode=max"),
        (EarlyStopping("val_balanced_accuracy/a"), "EarlyStopping monitors .* set mode=max"),
        (SingleWeightTransfer("val_auroc/{site}"), "SingleWeightTransfer monitors .* set mode=max"),
        (ModelCheckpoint(monitor="val_loss", mode="max"), "set mode=min"),
        (EarlyStopping("val_mean_auroc"), "set mode=max"),
    ],
)
def test_the_worst_is_not_taken_for_the_best(callback: Callback, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(callback)


def test_what_means_nothing_and_what_is_worst_follow_from_the_task() -> None:
    ages = {"a": [65.5, 40.0], "b": [30.0, 30.0]}
    with pytest.raises(InputError, match=r"'val_r2/b', .* are all of the value 30.0"):
        check_monitors(trainer(EarlyStopping("val_r2/b", mode="max")), ages, Regression())
    with pytest.raises(InputError, match=r"'val_mean_absolute_error' with mode=max, .* set mode=min"):
        check_monitors(trainer(EarlyStopping("val_mean_absolute_error", mode="max")), ages, Regression())
    check_monitors(trainer(EarlyStopping("val_r2", mode="max"), SiteEvaluation()), ages, Regression())


def test_a_fit_that_is_never_validated_finds_no_best_model() -> None:
    with pytest.warns(UserWarning, match="monitors 'val_loss', but nothing is validated: check_val_every_n_epoch=4 is"):
        check(EarlyStopping("val_loss"), check_val_every_n_epoch=4, max_epochs=3)
    check(EarlyStopping("val_loss"), check_val_every_n_epoch=3, max_epochs=3)
    check(EarlyStopping("train_loss"), check_val_every_n_epoch=4, max_epochs=3)


def test_a_federation_has_no_auroc_of_all_sites() -> None:
    with pytest.raises(InputError, match=r"'val_auroc', .* monitor val_mean_auroc, .* such as val_auroc/SITE"):
        refuse_unpooled(trainer(EarlyStopping("val_auroc")), Classification(2), ["a"])
    with pytest.raises(InputError, match="'val_loss/mgh', and there is no such site in the validation; it has a, b"):
        refuse_unpooled(trainer(EarlyStopping("val_loss/mgh")), Classification(2), ["a", "b"])
    others = EarlyStopping("val_loss"), ModelCheckpoint(monitor="val_auroc/a"), EarlyStopping("val_mean_auroc")
    refuse_unpooled(trainer(*others, SingleWeightTransfer("val_loss/{site}")), Classification(2), ["a"])


class Plateau(ImageClassifier):
    def configure_optimizers(self) -> Any:
        import torch

        optimizer = torch.optim.Adam(self.parameters())
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max")
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "val_auroc/site-1"}}


def one_class(data: PhantomDataModule) -> PhantomDataModule:
    """Its first site has healthy people alone to validate on."""
    table = data.table
    data._table = table[
        ~((table["site"] == "site-1") & (table["split"] == "val") & (table["label"] == 1))
    ].reset_index()
    return data


@pytest.mark.parametrize(
    ("who", "name"), [("schedule", "val_auroc/site-1"), ("callback", "val_auroc/site-1"), ("callback", "val_loss/mgh")]
)
def test_a_fit_does_not_begin(who: str, name: str) -> None:
    data = one_class(PhantomDataModule(sites=2, patients=20, size=32, batch_size=8))
    module = (Plateau if who == "schedule" else ImageClassifier)("squeezenet1_1")
    mode = "min" if name.startswith("val_loss") else "max"
    callbacks = [CyclicalWeightTransfer(1), *([EarlyStopping(name, mode=mode)] if who == "callback" else [])]
    fitted = trainer(*callbacks, max_epochs=2)
    with pytest.raises(InputError, match=f"(ReduceLROnPlateau|EarlyStopping) monitors '{name}'"):
        fitted.fit(module, data)
    assert fitted.global_step == 0


def test_schedules_are_found_once_they_are_made() -> None:
    config = SimpleNamespace(scheduler=object(), monitor="val_x", reduce_on_plateau=True)
    fitted = trainer()
    assert monitors(fitted) == []
    fitted.strategy.lr_scheduler_configs = [config]
    assert monitors(fitted) == [("object", "val_x")]
    assert isinstance(fitted, pl.Trainer)

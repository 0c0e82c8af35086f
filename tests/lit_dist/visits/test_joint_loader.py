"""A site's several loaders are drawn from at once, by the seeds of the visit, and one of them is counted."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lit_dist import InputError, SafetensorsCheckpointIO
from lit_dist.callbacks import CyclicalWeightTransfer, RunCheckpoint
from lit_dist.visits.joint_loader import JointLoader, as_loader, loaders_in
from lit_dist.visits.site_loader import SiteLoader
from small import SmallModule, ledger, loader, loaders, trainer


def rows(first: int, number: int, batch_size: int, **kwargs: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.arange(first, first + number)), batch_size, **{"shuffle": True, **kwargs})


def site(number: int) -> dict[str, DataLoader[Any]]:
    first = 1000 * number
    return {"labelled": rows(first, 4, 2), "unlabelled": rows(first + 100, 12 + 3 * number, 3)}


class Pairs(SmallModule):
    """Takes batches of labelled and unlabelled records."""

    validation_step = pl.LightningModule.validation_step  # type: ignore[assignment]

    def training_step(self, batch: dict[str, list[Tensor]], batch_idx: int) -> Tensor:
        self.rows += [int(row) for part in batch.values() for row in part[0]]
        both = torch.cat([part[0] for part in batch.values()])
        return self.network(torch.stack([both % 7, both % 5, both % 3], 1).float()).pow(2).mean()


def fit(folder: str = "run", path: Any = None, **kwargs: Any) -> Pairs:
    pl.seed_everything(0, verbose=False)
    module = Pairs()
    transfer = CyclicalWeightTransfer(**{"every_n_epochs": 1, **kwargs})
    run = trainer(transfer, RunCheckpoint(every_n_steps=1, keep=99), default_root_dir=folder, max_epochs=4)
    run.fit(module, {"a": site(0), "b": CombinedLoader(site(1), "max_size_cycle")}, ckpt_path=path, weights_only=True)
    return module


def test_the_loader_that_decides_the_length_is_counted() -> None:
    module = fit()
    lines = ledger(Path("run"))
    assert [(line["site"], line["steps"], line["images"]) for line in lines[:2]] == [("a", 4, 12), ("b", 5, 15)]
    first = module.rows[:20]  # of four steps
    assert sorted(row for row in first if row >= 100) == list(range(100, 112)), "a whole pass"
    assert sorted(row for row in first if row < 100) == [0, 0, 1, 1, 2, 2, 3, 3], "two passes, in two orders"
    orders = [row for row in first if row < 100]
    assert orders[:4] != orders[4:]


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"every_n_epochs": None, "every_n_steps": 3}])
def test_an_interrupted_run_equals_an_unbroken_one(settings: dict[str, Any]) -> None:
    whole = fit("whole", **settings)
    checkpoints = sorted(Path("whole/checkpoints").glob("*"), key=lambda path: int(path.stem.rpartition("_")[2]))
    for path in checkpoints[1:-1:4]:
        again = fit(f"again_{path.stem}", path, **settings)
        assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True)), path
        assert again.rows == whole.rows[-len(again.rows) :]


def test_the_shortest_may_decide() -> None:
    short = JointLoader([rows(0, 4, 2), rows(0, 12, 3)], "min_size")
    assert (len(short), len(list(short)), len(short.dataset)) == (2, 2, 4)
    assert short.counted([[1, 2], [3]]) == [1, 2]
    assert short.counted({"another": "structure"}) == {"another": "structure"}


def test_limits_hold_for_the_one_that_decides() -> None:
    loader_ = SiteLoader({"a": site(0), "b": rows(0, 4, 2)})
    assert len(loader_.flattened) == 2, "those of the coming epoch"
    loader_.limits = [1, 3]
    assert len(loader_) == len(list(loader_)) == 3


def test_what_is_one_loader_stays_one() -> None:
    one = rows(0, 4, 2)
    assert as_loader(one) is one
    assert as_loader([1, 2]) == [1, 2]
    assert loaders_in({"x": one, "y": [one, one]}) == [one] * 3
    with pytest.raises(InputError, match="mode 'sequential' cannot be trained from"):
        as_loader(CombinedLoader([one], "sequential"))
    with pytest.raises(InputError, match="'a' has no training batches"):
        SiteLoader({"a": {"x": one, "y": rows(0, 0, 1, shuffle=False)}})


def test_fit_takes_loaders_by_site_and_leaves_them_as_they_were() -> None:
    given = {"a": loader(0, 4), "b": loader(1, 6)}
    runs = [trainer(CyclicalWeightTransfer(every_n_epochs=1), plugins=[SafetensorsCheckpointIO()]) for _ in range(2)]
    modules = []
    for run, data in zip(runs, (given, SiteLoader(given)), strict=True):
        pl.seed_everything(0, verbose=False)
        modules.append(SmallModule())
        Path("ledger.jsonl").unlink(missing_ok=True)
        run.fit(modules[-1], train_dataloaders=data, val_dataloaders=loaders([2, 1], shuffle=False))
    assert modules[0].visited == modules[1].visited == ("aaaa" + "bbbbbb") * 3
    assert {"val_loss", "val_loss/a", "val_loss/b"} <= set(runs[0].callback_metrics)
    assert runs[0].fit_loop._data_source.instance is given

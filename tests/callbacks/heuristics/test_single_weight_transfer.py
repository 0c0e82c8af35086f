"""Single weight transfer, compared with a plain loop that does the same."""

import copy
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from lit_dist import InputError, newest_checkpoint
from lit_dist.callbacks import RunCheckpoint, SingleWeightTransfer
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.visits.seeding import pass_seed, seed_torch, step_seed
from small import SmallData, SmallModule, fit, ledger, trainer

ATTEMPTS = 40


def plain_loop(patience: int, hand_over: str, most: int | None = None) -> tuple[SmallModule, str]:
    """Each site once, until its validation loss has not improved for ``patience`` epochs."""
    pl.seed_everything(0, verbose=False)
    module, data = SmallModule(), SmallData()
    network = module.network
    [validation] = [torch.cat([batch[0] for batch in data.val_dataloader()])]
    visited = ""
    for visit, (site, loader) in enumerate(data.train_dataloader().items()):
        optimizer = torch.optim.Adam(network.parameters(), lr=module.lr)
        best, waited, best_weights, epochs = float("inf"), 0, None, 0
        while waited < patience and epochs != most:
            network.train()
            seed = pass_seed(0, visit, epochs)
            torch.manual_seed(seed)
            batches = [batch[0] for batch in loader]
            for step, batch in enumerate(batches):
                seed_torch(step_seed(seed, step), torch.device("cpu"))
                optimizer.zero_grad()
                network(batch / 10).pow(2).mean().backward()
                optimizer.step()
            network.eval()
            with torch.no_grad():
                losses = [network(rows / 10).pow(2).mean() for rows in validation.split(2)]
            loss = float(sum(losses) / len(losses))
            epochs += 1
            waited = 0 if loss < best else waited + 1
            if loss < best:
                best, best_weights = loss, copy.deepcopy(network.state_dict())
        if hand_over == "best" and best_weights is not None:
            network.load_state_dict(best_weights)
        visited += site * len(batches) * epochs
    return module, visited


@pytest.mark.parametrize("hand_over", ["best", "last"])
@pytest.mark.parametrize(("patience", "most"), [(1, None), (2, None), (3, 5), (9, 2)])
def test_it_equals_a_plain_loop(patience: int, most: int | None, hand_over: Any) -> None:
    expected, visited = plain_loop(patience, hand_over, most)
    transfer = SingleWeightTransfer(patience=patience, max_epochs_per_site=most, hand_over=hand_over)
    module = fit(transfer, max_epochs=ATTEMPTS)
    assert module.visited == visited
    assert fingerprint(module.state_dict()) == fingerprint(expected.state_dict())
    lines = ledger()
    assert [(line["visit"], line["site"], line["outcome"]) for line in lines] == [
        (0, "a", "trained"), (1, "b", "trained"), (2, "c", "trained")
    ]  # fmt: skip
    assert lines[-1]["sha256_out"] == fingerprint(module.state_dict())[0]


class Everywhere(Callback):
    def __init__(self, folder: Path) -> None:
        self.folder, self.saved = folder, 0

    def save(self, trainer: pl.Trainer, *_: Any) -> None:
        self.saved += 1
        trainer.save_checkpoint(self.folder / f"{self.saved:03d}.ckpt", weights_only=False)

    on_train_epoch_start = on_train_batch_end = on_validation_start = on_train_epoch_end = save


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"hand_over": "last", "optimizer_state": "local", "order": "shuffled"}])
def test_a_resumed_run_equals_the_unbroken_one(options: dict[str, Any], tmp_path: Path) -> None:
    def run(*callbacks: Callback, path: Path | None = None) -> SmallModule:
        pl.seed_everything(0, verbose=False)
        module = SmallModule()
        transfer = SingleWeightTransfer(patience=2, max_epochs_per_site=3, **options)
        fitting = trainer(transfer, *callbacks, max_epochs=ATTEMPTS)
        fitting.fit(module, SmallData(), ckpt_path=path, weights_only=True)
        return module

    unbroken = run(Everywhere(tmp_path))
    saved = sorted(tmp_path.glob("*.ckpt"))
    for path in saved[::3]:  # site a's epochs have seven, of which each is among three epochs' thirds
        resumed = run(path=path)
        assert fingerprint(resumed.state_dict()) == fingerprint(unbroken.state_dict()), path
        assert unbroken.visited.endswith(resumed.visited)


def test_a_finished_run_is_not_resumed(tmp_path: Path) -> None:
    module = fit(SingleWeightTransfer(patience=1), RunCheckpoint(), max_epochs=ATTEMPTS)
    resumed = SmallModule()
    again = trainer(SingleWeightTransfer(patience=1), RunCheckpoint(), max_epochs=ATTEMPTS)
    again.fit(resumed, SmallData(), ckpt_path=newest_checkpoint(Path()), weights_only=True)
    assert resumed.visited == ""
    assert fingerprint(resumed.state_dict()) == fingerprint(module.state_dict())


def test_the_metric_may_be_that_of_the_visited_site() -> None:
    class PerSite(SmallModule):
        def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
            for site in "abc":
                self.log(f"val_loss/{site}", 1.0 if site == "b" else -float(self.trainer.current_epoch))

    module = fit(
        SingleWeightTransfer("val_loss/{site}", patience=1, max_epochs_per_site=4),
        module=PerSite(),
        max_epochs=ATTEMPTS,
    )
    assert module.visited == "aaaa" * 4 + "bbbbbb" * 2 + "cc" * 4


def test_a_missing_metric_is_named() -> None:
    with pytest.raises(InputError, match=r"monitors 'val_auc', and the validation logs val_loss; to have it by site"):
        fit(SingleWeightTransfer("val_auc"))


@pytest.mark.parametrize(
    "arguments",
    [{"patience": 0}, {"min_delta": -1.0}, {"max_epochs_per_site": 0}, {"mode": "least"}, {"hand_over": "worst"}],
)
def test_impossible_settings_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        SingleWeightTransfer(**arguments)


def test_the_best_model_of_the_run_can_be_kept(tmp_path: Path) -> None:
    best = ModelCheckpoint(tmp_path / "best", monitor="val_loss")
    fit(SingleWeightTransfer(patience=2), best, max_epochs=ATTEMPTS)
    assert Path(best.best_model_path).exists()


def test_a_fit_that_validates_nothing_would_stay_at_the_first_site_and_is_refused() -> None:
    with pytest.raises(InputError, match="this fit validates nothing"):
        fit(SingleWeightTransfer(), max_epochs=4, limit_val_batches=0)
    fit(SingleWeightTransfer(max_epochs_per_site=1), max_epochs=4, limit_val_batches=0)
    assert len({line["site"] for line in ledger()}) > 1

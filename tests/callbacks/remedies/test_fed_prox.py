"""FedProx, beside a module that adds the term to its loss itself."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor

from lit_dist import InputError
from lit_dist.callbacks import CyclicalWeightTransfer, FedProx
from lit_dist.checkpoints.baton import fingerprint
from small import SmallModule, fit, ledger


class Plain(SmallModule):
    """Whose optimizer makes no step of a last bit."""

    def __init__(self) -> None:
        pl.seed_everything(0, verbose=False)
        super().__init__()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.02)


class OwnTerm(Plain):
    """Adds the proximal term of equation 2 to its loss."""

    def __init__(self, mu: float) -> None:
        super().__init__()
        self.mu = mu
        self.came_in: list[Tensor] = []

    def on_train_epoch_start(self) -> None:  # a visit is an epoch here
        self.came_in = [each.detach().clone() for each in self.parameters()]

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        pairs = zip(self.parameters(), self.came_in, strict=True)
        return super().training_step(batch, batch_idx) + self.mu / 2 * sum(((a - b) ** 2).sum() for a, b in pairs)


@pytest.mark.parametrize("settings", [{}, {"gradient_clip_val": 0.1}, {"accumulate_grad_batches": 2}], ids=str)
def test_it_is_the_term_in_the_loss(settings: dict[str, Any]) -> None:
    transfer = CyclicalWeightTransfer(every_n_epochs=1)
    found = fit(transfer, FedProx(mu=0.5), module=Plain(), **settings)
    expected = fit(transfer, module=OwnTerm(0.5), **settings)
    plain = fit(transfer, module=Plain(), **settings)
    for one, other, without in zip(found.parameters(), expected.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        assert not torch.equal(one, without)


def test_without_weight_it_is_the_run_without() -> None:
    found = fit(CyclicalWeightTransfer(every_n_steps=2), FedProx(mu=0))
    expected = fit(CyclicalWeightTransfer(every_n_steps=2))
    assert fingerprint(found.state_dict()) == fingerprint(expected.state_dict())


def test_its_weight_is_in_the_settings_hash() -> None:
    found = set()
    for mu in (0.0, 5.0):
        fit(CyclicalWeightTransfer(every_n_epochs=1), FedProx(mu=mu), max_epochs=1, default_root_dir=str(mu))
        found.add(ledger(Path(str(mu)))[0]["settings"])
    assert len(found) == 2


@pytest.mark.parametrize("mu", [-1.0, float("nan"), float("inf"), 1e308, True, None, "0.1"])
def test_a_weight_that_is_none_is_refused(mu: Any) -> None:
    with pytest.raises(InputError, match="mu="):
        FedProx(mu=mu)


class Scaled(Plain):
    """Whose optimizer divides by the scale of the loss itself."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.02, fused=True)


def test_it_counts_as_much_where_the_loss_is_scaled() -> None:
    def scaled(mu: float) -> SmallModule:
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        precision = {"plugins": [MixedPrecision("16-mixed", "cpu", scaler)]}
        return fit(CyclicalWeightTransfer(every_n_epochs=1), FedProx(mu), module=Scaled(), max_epochs=3, **precision)

    plain = fit(CyclicalWeightTransfer(every_n_epochs=1), FedProx(5), module=Plain(), max_epochs=3)
    free = scaled(0)
    for one, other, without in zip(scaled(5).parameters(), plain.parameters(), free.parameters(), strict=True):
        assert (one - other).abs().max() < 0.2 * (without - other).abs().max() + 1e-3


class Exploding(Plain):
    """Whose loss is NaN once."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss * float("nan") if self.current_epoch == 1 and batch_idx == 1 else loss


@pytest.mark.filterwarnings("ignore:.*diverged", "ignore:`training_step` returned `None`")
def test_a_visit_that_is_left_out_is_left_out_with_it_too() -> None:
    transfer = CyclicalWeightTransfer(every_n_epochs=1, on_divergence="skip")
    fit(transfer, FedProx(mu=0.1), module=Exploding(), max_epochs=3)
    assert [entry["outcome"] for entry in ledger()] == ["trained", "skipped", "trained"]

"""FixBN: the statistics after the first cycles stay, and are what later steps are normalised by."""

from typing import Any

import pytest
import torch
from torch import Tensor

from lit_dist import InputError
from lit_dist.callbacks import CyclicalWeightTransfer, FixBN
from lit_dist.callbacks.remedies import fix_bn
from small import SmallModule, fit


class Noting(SmallModule):
    """Notes the running mean, and whether the layer goes by it, in each step."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple[bool, Tensor]] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        norm: Any = self.network[1]
        self.noted.append((norm.training, norm.running_mean.clone()))
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("length", [{"every_n_epochs": 1}, {"every_n_steps": 4}], ids=str)
def test_statistics_are_frozen_after_a_cycle(length: dict[str, int]) -> None:
    module = fit(
        CyclicalWeightTransfer(**length), FixBN(), module=Noting(), max_epochs=6 if "every_n_epochs" in length else 2
    )
    assert isinstance(module, Noting)
    training = [each for each, _ in module.noted]
    means = [mean for _, mean in module.noted]
    assert training == [True] * 12 + [False] * 12  # of 4, 6 and 2 batches, or 4 each
    assert not torch.equal(means[0], means[11])
    assert all(torch.equal(mean, means[12]) for mean in means[12:])


def test_a_fit_looks_for_the_layers_once_and_in_its_own_module(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Any] = []
    usual = fix_bn.norms_of
    monkeypatch.setattr(fix_bn, "norms_of", lambda module: looked.append(module) or usual(module))  # type: ignore[func-returns-value]
    frozen = FixBN()
    modules = [fit(CyclicalWeightTransfer(every_n_epochs=1), frozen, module=Noting(), max_epochs=4) for _ in range(2)]
    assert looked == modules
    for module in modules:
        assert isinstance(module, Noting)
        assert [each for each, _ in module.noted] == [True] * 12 + [False] * 4
    assert not frozen._norms


def test_a_number_of_cycles_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="cycles=0"):
        FixBN(cycles=0)

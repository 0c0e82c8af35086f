"""HandOff: what changes weights after a visit is named, with its tensors; what does so within one belongs to it."""

from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from lit_dist import InputError, read_checkpoint
from lit_dist.callbacks import CyclicalWeightTransfer, RunCheckpoint
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.checkpoints.run_folder import newest_checkpoint
from small import SmallModule, fit, ledger


class Teacher(SmallModule):
    """Follows itself by an average in a hook of its own, fills a queue, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = nn.Linear(3, 8).requires_grad_(False)
        self.register_buffer("queue", torch.zeros(5, 3))
        self.register_buffer("seen", torch.tensor(0))

    @torch.no_grad()
    def on_train_batch_end(self, outputs: Any, batch: list[Tensor], batch_idx: int) -> None:
        self.teacher.weight.lerp_(self.network[0].weight, 0.1)
        self.queue = torch.cat([self.queue[len(batch[0]) :], batch[0]])
        self.seen += 1
        self.log("seen", self.seen.float())


@pytest.mark.parametrize("length", [{"every_n_epochs": 1}, {"every_n_steps": 2}], ids=["epochs", "steps"])
def test_what_a_module_does_at_the_end_of_its_batch_belongs_to_the_visit(length: dict[str, int]) -> None:
    module = Teacher()
    fit(CyclicalWeightTransfer(**length), RunCheckpoint(), module=module, max_epochs=3)
    assert int(module.seen) == len(module.visited), "once a step"
    assert [line["outcome"] for line in ledger()] == ["trained"] * len(ledger())
    assert ledger()[-1]["sha256_out"] == fingerprint(module.state_dict())[0]
    newest = newest_checkpoint(".")
    assert newest is not None
    assert torch.equal(read_checkpoint(newest)["state_dict"]["queue"], module.queue)


def test_a_module_has_its_own_hook_again_after_a_fit() -> None:
    module = Teacher()
    fit(CyclicalWeightTransfer(every_n_epochs=1), module=module, max_epochs=3)
    assert "on_train_batch_end" not in vars(module)


class LateTeacher(SmallModule):
    """Changes a buffer when a visit has ended."""

    def __init__(self, hook: str, epoch: int = 0) -> None:
        super().__init__()
        self.register_buffer("seen", torch.tensor(0))
        self.hook, self.epoch = hook, epoch

    def late(self, hook: str) -> None:
        if hook == self.hook and self.current_epoch == self.epoch and not self.trainer.sanity_checking:
            self.seen += 1

    def on_validation_epoch_end(self) -> None:
        self.late("on_validation_epoch_end")

    def on_train_epoch_end(self) -> None:
        self.late("on_train_epoch_end")


@pytest.mark.parametrize("hook", ["on_validation_epoch_end", "on_train_epoch_end"])
def test_what_changes_after_a_visit_is_named_at_its_first_change(hook: str) -> None:
    with pytest.raises(InputError, match=f"(?s)visit 1 at 'b' .*changed: seen.*LateTeacher.{hook}.*on_visit_end"):
        fit(CyclicalWeightTransfer(every_n_epochs=1), module=LateTeacher(hook), max_epochs=3)
    assert len(ledger()) == 1


def test_also_after_the_last_visit() -> None:
    with pytest.raises(InputError, match=r"(?s)the run does not end with .*changed: seen"):
        fit(CyclicalWeightTransfer(every_n_epochs=1), module=LateTeacher("on_train_epoch_end", 2), max_epochs=3)
    assert len(ledger()) == 3


class Behind(Callback):
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        with torch.no_grad():
            pl_module.network[0].bias.add_(1)  # type: ignore[index, operator, union-attr]


def test_a_callback_before_the_transfer_may_change_weights_and_one_behind_may_not() -> None:
    fit(Behind(), CyclicalWeightTransfer(every_n_epochs=1), max_epochs=3)
    with pytest.raises(InputError, match=r"changed: network\.0\.bias.*Behind\.on_train_batch_end"):
        fit(CyclicalWeightTransfer(every_n_epochs=1), Behind(), max_epochs=3)

"""What is in place while a batch is judged gets into no checkpoint."""

from typing import Any

import pytest
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from lit_dist import InputError, SafetensorsCheckpointIO, read_checkpoint
from lit_dist.callbacks import CyclicalWeightTransfer, SiteStatistics, VisitAveraging
from lit_dist.checkpoints.baton import fingerprint
from small import SmallData, SmallModule, ledger, loaders, trainer


class Saving(SmallModule):
    """Saves a checkpoint in its own validation, within a step or after it."""

    hook = "validation_step"

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.network(inputs / 10)
        return outputs

    def validation_step(self, batch: list[Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        if self.hook == "validation_step":
            self.trainer.save_checkpoint("own.ckpt")

    def on_validation_batch_end(self, *_: Any) -> None:
        if self.hook != "validation_step":
            self.trainer.save_checkpoint("own.ckpt")


class ByName(SmallData):
    def val_dataloader(self) -> Any:
        return loaders(shuffle=False)


@pytest.mark.parametrize("callback", [SiteStatistics, VisitAveraging])
def test_a_checkpoint_within_a_step_is_refused_and_one_after_it_has_the_running_weights(
    callback: type[Callback],
) -> None:
    for hook in ("validation_step", "on_validation_batch_end"):
        module = Saving()
        module.hook = hook
        made = trainer(
            CyclicalWeightTransfer(every_n_epochs=1), callback(), max_epochs=2, plugins=[SafetensorsCheckpointIO()]
        )
        if hook == "validation_step":
            with pytest.raises(
                InputError, match=rf"Saving saves a checkpoint in its validation_step, .*{callback.__name__}"
            ):
                made.fit(module, ByName())
        else:
            made.fit(module, ByName())
            assert fingerprint(read_checkpoint("own.ckpt")["state_dict"])[0] == ledger()[-1]["sha256_out"]

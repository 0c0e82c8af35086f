"""The batons that a run keeps."""

import torch
from lightning.pytorch.plugins.precision import MixedPrecision

from lit_dist import read_checkpoint
from lit_dist.callbacks import CyclicalWeightTransfer
from small import fit


def test_a_baton_has_the_scale_of_the_gradients() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0, growth_interval=1)
    transfer = CyclicalWeightTransfer(every_n_epochs=1, baton_dir="batons")
    fit(transfer, max_epochs=2, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    scales = [read_checkpoint(f"batons/visit_00000{visit}.baton")["MixedPrecision"]["scale"] for visit in range(2)]
    assert scales == [2.0 ** (1 + 4), 2.0 ** (1 + 4 + 6)]

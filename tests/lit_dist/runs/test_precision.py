"""Networks of half and double precision: the batch follows, and a run that is resumed is the same."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lit_dist import ImageClassifier, read_checkpoint
from lit_dist.callbacks import CyclicalWeightTransfer, PredictionWriter, RunCheckpoint
from lit_dist.checkpoints.run_folder import newest_checkpoint
from lit_dist.datamodules import PhantomDataModule
from small import ledger, trainer


def run(precision: Any, epochs: int, folder: Path) -> Any:
    torch.manual_seed(0)
    module = ImageClassifier("slim_resnet18", backbone_kwargs={"width": 8})
    data = PhantomDataModule(sites=2, patients=20, size=32, batch_size=8)
    callbacks = [CyclicalWeightTransfer(every_n_epochs=1), PredictionWriter(), RunCheckpoint()]
    made = trainer(*callbacks, max_epochs=epochs, precision=precision, default_root_dir=folder)
    made.fit(module, datamodule=data, ckpt_path=newest_checkpoint(folder))
    return made, data


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "dtype"), [("bf16-true", torch.bfloat16), ("64-true", torch.float64)])
def test_a_network_of_another_precision_trains_resumes_and_is_tested(
    precision: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    run(precision, 2, tmp_path / "parts")
    made, data = run(precision, 3, tmp_path / "parts")
    run(precision, 3, tmp_path / "whole")
    assert ledger(tmp_path / "parts")[-1]["sha256_out"] == ledger(tmp_path / "whole")[-1]["sha256_out"]
    path = newest_checkpoint(tmp_path / "whole")
    assert path is not None
    assert read_checkpoint(path)["state_dict"]["backbone.conv1.weight"].dtype == dtype
    module = ImageClassifier("slim_resnet18", backbone_kwargs={"width": 8})
    made.test(module, datamodule=data, ckpt_path=path, verbose=False)
    assert module.dtype == dtype
    made.predict(module, datamodule=data, ckpt_path=path)

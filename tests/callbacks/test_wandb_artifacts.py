from pathlib import Path

import lightning.pytorch as pl
import pytest

from lit_dist import InputError
from lit_dist.callbacks import WandbArtifacts
from small import SmallModule, loader


def test_it_uploads_nothing_unasked() -> None:
    with pytest.raises(InputError, match="set model or ledger"):
        WandbArtifacts()


def test_without_its_logger_it_is_refused_before_training(tmp_path: Path) -> None:
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, callbacks=[WandbArtifacts(ledger=True)],
        logger=pl.loggers.CSVLogger(tmp_path), enable_checkpointing=False, enable_progress_bar=False,
    )  # fmt: skip
    module = SmallModule()
    with pytest.raises(InputError, match="needs a WandbLogger"):
        trainer.fit(module, loader(0, 2), loader(0, 1))
    assert module.rows == []

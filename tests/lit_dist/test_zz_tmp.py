import os, signal, json
from pathlib import Path
import pytest
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lit_dist.callbacks import CyclicalWeightTransfer, RunCheckpoint, newest_checkpoint
from lit_dist.baton import read_checkpoint
from lit_dist.verify import verify
from small import fit, ledger
@pytest.mark.parametrize("epoch", [0,1,2])
def test_told_in_validation(epoch):
    class Told(Callback):
        def on_validation_start(self, trainer, module):
            if trainer.current_epoch == epoch:
                os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SIGTERMException):
        fit(CyclicalWeightTransfer(every_n_epochs=1), Told(), RunCheckpoint())
    print(len(ledger()))
    c = read_checkpoint(newest_checkpoint(Path()))
    r = next(s["record"] for s in c["callbacks"].values() if "record" in s)
    print(r["waiting"] is not None, r["ended"], r["head"])
    print(verify(Path()))

"""A run that max_steps ends within a cycle of visits told in steps cannot be made longer as if nothing was left out."""

from typing import Any

import lightning.pytorch as pl
import pytest

from lit_dist import InputError
from lit_dist.callbacks import CyclicalWeightTransfer, FederatedAveraging, RunCheckpoint
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.checkpoints.run_folder import newest_checkpoint
from small import SmallData, SmallModule, ledger, trainer


def made() -> SmallModule:
    pl.seed_everything(0, verbose=False)
    return SmallModule()


@pytest.mark.filterwarnings("ignore:.*max_steps", "ignore:.*within a round", "ignore:.*cycle")
@pytest.mark.parametrize("kind", [CyclicalWeightTransfer, FederatedAveraging])
@pytest.mark.parametrize("steps", [6, 8, 9])  # whole cycles; a whole visit more; half of another
def test_what_was_left_out_of_a_cycle_is_not_jumped_over(kind: Any, steps: int) -> None:
    def fit(max_steps: int, path: Any = None) -> None:
        made = trainer(kind(every_n_steps=2), RunCheckpoint(), max_epochs=-1, max_steps=max_steps)
        made.fit(SmallModule(), SmallData(), ckpt_path=path)

    fit(steps)
    before = ledger()
    if steps == 6:
        fit(12, newest_checkpoint("."))
        assert [line["visit"] for line in ledger() if "visit" in line] == list(range(6))
    else:
        with pytest.raises(
            InputError, match=r"visit 4 is due, and the fit would begin with visit 6|visit 4 at 'b' was"
        ):
            fit(18, newest_checkpoint("."))
        assert ledger() == before


@pytest.mark.filterwarnings("ignore:.*max_steps", "ignore:.*within a round", "ignore:.*cycle")
@pytest.mark.parametrize("kind", [CyclicalWeightTransfer, FederatedAveraging])
@pytest.mark.parametrize("visit", [{"every_n_epochs": 1}, {"every_n_epochs": 2}, {"every_n_steps": 6}])
@pytest.mark.parametrize("steps", [2, 10])
def test_what_was_left_out_of_an_epoch_is_not_jumped_over(kind: Any, visit: dict[str, int], steps: int) -> None:

    def fit(max_steps: int, folder: str, path: Any = None) -> str:
        module = made()
        settings = {"max_epochs": -1, "max_steps": max_steps, "default_root_dir": folder}
        trainer(kind(**visit), RunCheckpoint(), **settings).fit(module, SmallData(), ckpt_path=path)
        return fingerprint(module.state_dict())[0]

    fit(steps, "longer")
    if visit == {"every_n_epochs": 1} and steps == 10:  # the end of an epoch
        assert fit(20, "longer", newest_checkpoint("longer")) == fit(20, "whole")
    else:
        with pytest.raises(InputError, match=r"was ended in the middle of an epoch, by max_steps"):
            fit(20, "longer", newest_checkpoint("longer"))

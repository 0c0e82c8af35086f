"""A run that max_steps ends within a cycle of visits told in steps cannot be made longer as if nothing was left out."""

from typing import Any

import pytest

from lit_dist import InputError
from lit_dist.callbacks import CyclicalWeightTransfer, FederatedAveraging, RunCheckpoint
from lit_dist.checkpoints.run_folder import newest_checkpoint
from small import SmallData, SmallModule, ledger, trainer


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
        with pytest.raises(InputError, match=r"visit \d is due, and the fit would begin with visit 6"):
            fit(18, newest_checkpoint("."))
        assert ledger() == before

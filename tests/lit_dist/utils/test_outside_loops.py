"""What is done to a module outside Lightning's loops leaves it as it was."""

import pytest
from torch import nn

from lit_dist.utils.outside_loops import modes_kept


def test_each_part_is_in_its_own_mode_again_also_after_a_failure() -> None:
    module = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2))
    module[1].eval()  # a part that is frozen
    with modes_kept(module):
        module.train()
    with pytest.raises(TypeError), modes_kept(module):
        module.eval()(None)
    assert [part.training for part in module.modules()] == [True, True, False]

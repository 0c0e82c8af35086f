import math

from lit_dist.visits.epoch_plan import EpochPlan, Stretch
from lit_dist.visits.itinerary import FixedOrder

SIZES = {"a": 4, "b": 7}


def batches(stretch: Stretch) -> float:
    return SIZES[stretch.site] if stretch.batches is None else stretch.batches


def test_epochs_lay_a_visit_out_over_passes() -> None:
    plan = EpochPlan(FixedOrder(list(SIZES)), 2, None, seed=5)
    assert [plan.epoch(number) for number in (0, 1, 2)] == [
        [Stretch("a", None, 0, 0, 5)],
        [Stretch("a", None, 0, 1, 5)],
        [Stretch("b", None, 1, 0, 5)],
    ]
    assert plan.epochs_a_cycle == 4


def test_steps_lay_a_cycle_out_in_an_epoch() -> None:
    plan = EpochPlan(FixedOrder(list(SIZES)), None, 3, seed=5)
    assert plan.epoch(1, batches_a_step=2) == [Stretch("a", 6, 2, 0, 5), Stretch("b", 6, 3, 0, 5)]
    assert plan.epochs_a_cycle == 1


def test_the_visit_that_is_due_follows_the_last_one_unless_that_was_cut_short() -> None:
    plan = EpochPlan(FixedOrder(list(SIZES)), 2, None, seed=5)
    assert [plan.due(epoch, ended) for epoch, ended in ((0, 0), (1, 0), (2, 1), (3, 1))] == [0, 0, 1, 1]
    assert [plan.due(epoch, ended) for epoch, ended in ((1, 1), (3, 2))] == [0, 1]
    steps = EpochPlan(FixedOrder(list(SIZES)), None, 3, seed=5)
    assert [steps.due(epoch, ended) for epoch, ended in ((0, 0), (0, 1), (1, 2), (1, 3))] == [0, 1, 2, 3]
    assert steps.due(1, 1) == 2  # the epoch before had been ended within


def test_the_mean_epoch_gives_all_steps_rounded_up() -> None:
    plan = EpochPlan(FixedOrder(list(SIZES)), 1, None, seed=0)
    assert plan.mean_batches(2, 1, batches) == 6  # 11 steps in 2 epochs
    assert plan.mean_batches(2, 2, batches) == 6  # 2 + 4 steps of 2 batches
    assert plan.mean_batches(-1, 1, batches) == math.ceil(11 / 2)
    assert EpochPlan(FixedOrder(list(SIZES)), None, 3, 0).mean_batches(5, 2, batches) == 12

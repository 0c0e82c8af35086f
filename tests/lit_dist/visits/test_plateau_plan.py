from dataclasses import replace

from lit_dist.visits.epoch_plan import Stretch
from lit_dist.visits.itinerary import FixedOrder
from lit_dist.visits.plateau_plan import PlateauPlan


def test_the_epochs_of_a_visit_follow_from_the_decisions() -> None:
    plan = PlateauPlan(FixedOrder(["a", "b", "c"]), 1, None, 7)
    assert [plan.epoch(number)[0].site for number in range(5)] == ["a"] * 5
    plan = replace(plan, starts=(0, 2, 5))
    assert [plan.epoch(number)[0].site for number in range(7)] == [*"aabbbcc"]
    assert plan.epoch(4) == [Stretch("b", None, 1, 2, 7)]


def test_the_length_of_an_epoch_is_estimated_from_all_sites() -> None:
    sizes = {"a": 4, "b": 6, "c": 3}
    plan = PlateauPlan(FixedOrder(list(sizes)), 1, None, 7)
    assert plan.mean_batches(9, 1, lambda stretch: sizes[stretch.site]) == 5
    assert plan.mean_batches(9, 2, lambda stretch: sizes[stretch.site]) == 6

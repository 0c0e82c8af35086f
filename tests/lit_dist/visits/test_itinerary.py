from itertools import pairwise

import pytest

from lit_dist.utils.errors import InputError
from lit_dist.visits.itinerary import DaisyChains, Visit, ordered

SITES = ["a", "b", "c", "d"]


def cycles(order: str, sites: list[str] = SITES, seed: int = 0, count: int = 200) -> list[list[str]]:
    itinerary = ordered(sites, order, seed)
    return [[itinerary.site(cycle * len(sites) + place) for place in range(len(sites))] for cycle in range(count)]


def test_fixed_order_goes_round_and_round() -> None:
    itinerary = ordered(SITES, "fixed")
    assert [itinerary.visit(number) for number in (0, 3, 4)] == [Visit(0, 0, "a"), Visit(3, 0, "d"), Visit(4, 1, "a")]


@pytest.mark.parametrize("order", ["shuffled", "no_repeat"])
def test_shuffled_orders_visit_every_site_once_a_cycle_in_changing_orders(order: str) -> None:
    orders = cycles(order)
    assert all(sorted(cycle) == SITES for cycle in orders)
    assert len({tuple(cycle) for cycle in orders}) > 20
    assert cycles(order) == orders
    assert cycles(order, seed=1) != orders


@pytest.mark.parametrize("order", ["shuffled", "no_repeat"])
def test_a_visits_site_does_not_depend_on_what_was_asked_before(order: str) -> None:
    itinerary = ordered(SITES, order)
    forwards = [itinerary.site(visit) for visit in range(40)]
    assert [itinerary.site(visit) for visit in reversed(range(40))] == forwards[::-1]
    assert [ordered(SITES, order).site(visit) for visit in range(40)] == forwards


@pytest.mark.parametrize("sites", [SITES, ["a", "b", "c"], ["a", "b"]])
def test_no_repeat_never_stays(sites: list[str]) -> None:
    visits = [site for cycle in cycles("no_repeat", sites) for site in cycle]
    assert all(site != following for site, following in pairwise(visits))


def test_shuffled_does_stay_sometimes() -> None:
    visits = [site for cycle in cycles("shuffled") for site in cycle]
    assert any(site == following for site, following in pairwise(visits))


def test_no_repeat_is_fair_to_every_place() -> None:
    firsts = [cycle[0] for cycle in cycles("no_repeat", count=2000)]
    assert all(firsts.count(site) == pytest.approx(500, abs=90) for site in SITES)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (["a", "x"], "'x', which is not one of a, b, c, d"),
        (["a", "b", "a"], "'a' stands twice"),
        ([], "empty"),
        ("random", "'random' is not"),
    ],
)
def test_refused_orders(order: str | list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ordered(SITES, order)  # type: ignore[arg-type]


def test_daisy_chains_visit_each_site_once_a_link_and_begin_in_order() -> None:
    chains, sites = DaisyChains("abcd", links=3, seed=1), ["a", "b", "c", "d"]
    rounds = [[chains.site(visit) for visit in range(12 * number, 12 * number + 12)] for number in range(3)]
    for places in rounds:
        assert places[::3] == sites
        assert all(sorted(places[link::3]) == sites for link in (1, 2))
    assert rounds[0] != rounds[1], "drawn anew each round"
    assert rounds != [[DaisyChains("abcd", 3, seed=2).site(v) for v in range(12 * n, 12 * n + 12)] for n in range(3)]
    assert chains.site(4) == rounds[0][4], "a pure function of the visit's number"
    assert [chains.visit(visit).cycle for visit in (0, 11, 12)] == [0, 0, 1]
    assert [visit for visit in range(24) if chains.from_merge(visit)] == [*range(0, 24, 3)]
    assert [visit for visit in range(24) if chains.merges_after(visit)] == [11, 23]
    assert [visit for visit in range(12) if chains.advances(visit)] == [9, 10, 11]

import math
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from lit_dist.utils.errors import InputError
from lit_dist.visits.epoch_plan import Stretch
from lit_dist.visits.site_loader import MAX_PERSISTENT_SITES, SiteLoader
from small import Stream, loader, loaders

LISTS = {"a": [0, 1, 2], "b": [10, 11]}


def batches(site_loader: SiteLoader) -> list[Any]:
    return [batch for batch, _, _ in site_loader]


def planned(*stretches: Stretch, sites: dict[str, Any] | None = None) -> SiteLoader:
    site_loader = SiteLoader(sites or LISTS)
    site_loader.plan = lambda: stretches
    return site_loader


def test_alone_it_draws_from_the_active_site() -> None:
    site_loader = SiteLoader(LISTS, active="b")
    assert (len(site_loader), batches(site_loader), site_loader.active) == (2, [10, 11], "b")
    site_loader.active = "a"
    assert (len(site_loader), batches(site_loader), batches(site_loader)) == (3, [0, 1, 2], [0, 1, 2])


def test_a_plan_draws_so_many_batches_of_each_site() -> None:
    site_loader = planned(Stretch("a", 2), Stretch("b", 1), Stretch("a", 1))
    assert len(site_loader) == 4
    assert [(batch, index) for batch, index, _ in site_loader] == [(0, 0), (1, 1), (10, 2), (0, 3)]


def test_a_small_site_is_drawn_again() -> None:
    assert batches(planned(Stretch("b", 5))) == [10, 11, 10, 11, 10]


def test_limits_shorten_a_pass_and_a_visit_but_a_full_limit_does_not() -> None:
    site_loader = planned(Stretch("a", 5), Stretch("b"))
    site_loader.limits = [3, 2]  # as Lightning sets them by default: all batches
    assert batches(site_loader) == [0, 1, 2, 0, 1, 10, 11]
    site_loader.limits = [2, 1]
    assert (len(site_loader), batches(site_loader)) == (3, [0, 1, 10])


def test_the_fit_loop_sees_only_the_loaders_of_this_epoch() -> None:
    site_loader = planned(Stretch("b", 1))
    assert site_loader.flattened == [LISTS["b"]]
    site_loader.flattened = [[7]]
    assert batches(site_loader) == [7]
    assert site_loader.iterables == {"a": LISTS["a"], "b": [7]}
    site_loader.estimate = lambda: 42
    assert (len(site_loader), len(site_loader.flattened)) == (42, 2)


def test_an_unknown_length_is_a_type_error_as_lightning_expects() -> None:
    site_loader = SiteLoader({"a": DataLoader(Stream(0, 2), batch_size=2)})
    with pytest.raises(TypeError):
        len(site_loader)
    assert site_loader.batches(Stretch("a")) == math.inf
    assert len(batches(site_loader)) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_the_order_of_a_pass_depends_on_its_seed_alone(workers: int) -> None:
    site_loader = planned(
        Stretch("a", 4, visit=3, seed=1), Stretch("a", 4, visit=4, seed=1), sites=loaders([4], num_workers=workers)
    )
    torch.manual_seed(0)
    first = torch.cat([batch[0] for batch in batches(site_loader)])[:, 1].tolist()
    torch.manual_seed(99)
    torch.rand(7)
    again = torch.cat([batch[0] for batch in batches(site_loader)])[:, 1].tolist()
    assert first == again
    assert first[:8] != first[8:]
    assert sorted(first[:8]) == sorted(first[8:]) == list(range(8))


def test_a_position_is_restored_by_drawing_again() -> None:
    whole = planned(Stretch("a", 2, seed=1), Stretch("b", 3, seed=1), sites=loaders([4, 4]))
    expected = [batch[0].tolist() for batch in batches(whole)]
    broken = planned(Stretch("a", 2, seed=1), Stretch("b", 3, seed=1), sites=loaders([4, 4]))
    iter(broken)
    for _ in range(3):
        next(broken)
    resumed = planned(Stretch("a", 2, seed=1), Stretch("b", 3, seed=1), sites=loaders([4, 4]))
    resumed._load_state_dicts(broken._state_dicts())
    assert [batch[0].tolist() for batch in batches(resumed)] == expected[3:]
    assert [batch[0].tolist() for batch in batches(resumed)] == expected, "only the resumed epoch starts in the middle"


def test_stretches_before_a_position_are_not_drawn_from() -> None:
    class Absent:
        def __len__(self) -> int:
            return 4

        def __iter__(self) -> Any:
            raise AssertionError("drawn from")

    broken = planned(Stretch("a", 2, seed=1), Stretch("b", 3, seed=1), sites=loaders([4, 4]))
    iter(broken)
    for _ in range(2):
        next(broken)
    sites = {"a": Absent(), "b": loaders([4, 4])["b"]}
    resumed = planned(Stretch("a", 2, seed=1), Stretch("b", 3, seed=1), sites=sites)
    resumed._load_state_dicts(broken._state_dicts())
    iter(resumed)
    assert resumed._state_dicts() == [{"drawn": 2}]
    assert [index for _, index, _ in (next(resumed) for _ in range(3))] == [2, 3, 4]


def test_no_position_is_kept_of_a_finished_epoch() -> None:
    site_loader = planned(Stretch("a"))
    batches(site_loader)
    assert site_loader._state_dicts() == [{"drawn": 0}]


def test_only_the_active_sites_workers_are_alive() -> None:
    sites = loaders([2] * 5, num_workers=2)
    site_loader = planned(*(Stretch(site, 2) for site in sites), sites=sites)
    before = set(torch.multiprocessing.active_children())  # of tests before
    alive = [len(set(torch.multiprocessing.active_children()) - before) for _ in site_loader]
    assert max(alive) == 2
    assert not set(torch.multiprocessing.active_children()) - before


def test_persistent_workers_of_few_sites_stay_until_reset() -> None:
    site_loader = planned(Stretch("a"), Stretch("b"), sites=loaders([2, 2], num_workers=1, persistent_workers=True))
    batches(site_loader)
    batches(site_loader)
    assert len(torch.multiprocessing.active_children()) == 2
    site_loader.reset()
    assert not torch.multiprocessing.active_children()


def test_persistent_workers_of_many_sites_are_refused() -> None:
    many = {str(n): loader(0, 1, num_workers=2, persistent_workers=True) for n in range(MAX_PERSISTENT_SITES + 1)}
    with pytest.raises(InputError, match="18 worker processes"):
        SiteLoader(many)


@pytest.mark.parametrize(
    ("sites", "active", "message"),
    [
        ({}, None, "no site"),
        ({"a": [1], "b": []}, None, "'b' has no training batches"),
        ({"a": [1]}, "x", "no site 'x'; the sites are a"),
        ({1: [1]}, None, "1 is not a string"),
    ],
)
def test_refusals(sites: dict[str, Any], active: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SiteLoader(sites, active)


def test_an_endless_search_for_batches_is_refused() -> None:
    site_loader = planned(Stretch("a", 3, seed=0), sites={"a": DataLoader(Stream(0, 0))})
    with pytest.raises(InputError, match="'a' gave no batch"):
        batches(site_loader)

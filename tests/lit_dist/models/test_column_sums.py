"""Sums of columns: what leaves a site, and what is refused of another's."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_dist.models.column_sums import Columns, Sums, added
from lit_dist.utils.errors import InputError

NAN = torch.nan
RANGES = torch.tensor([[0.0, 8.0], [0.0, 4.0]])
COLUMNS = Columns(2, 1, target=True, least=2, ranges=RANGES, bins=4)
RECORDS = torch.tensor([[1.0, NAN, 7.0], [3.0, NAN, 7.0], [NAN, 2.0, 5.0], [9.0, NAN, NAN]])
TARGETS = torch.tensor([1.0, 2.0, 3.0, 4.0])


def sums(columns: Columns = COLUMNS, **kwargs: Any) -> Sums:
    return columns.of([(RECORDS[:3], TARGETS[:3]), (RECORDS[3:], TARGETS[3:])], **kwargs)


def test_sums_are_those_of_the_values_that_are_there_and_of_enough_records() -> None:
    found = {name: value.tolist() for name, value in sums().items()}
    assert found == {
        "records": 4,
        "counts": [3, 0],  # one record is too few
        "sums": [13.0, 0.0],
        "squares": [91.0, 0.0],
        "target_sums": [10.0, 30.0],
        "histogram": [[0, 0, 0, 0], [0, 0, 0, 0]],
        "codes_0": [7],
        "code_counts_0": [2],
    }


def test_a_histogram_counts_within_the_range_and_what_lies_outside_at_its_ends() -> None:
    records = torch.tensor([[-5.0, 0.0, NAN], [0.5, 0.0, NAN], [8.0, 4.0, NAN], [99.0, 4.0, NAN]])
    found = COLUMNS.of([(records, TARGETS)])
    assert found["histogram"].tolist() == [[2, 0, 0, 2], [2, 0, 0, 2]]


def test_a_site_may_ask_for_more_records_behind_a_number() -> None:
    assert sums(least=4)["counts"].tolist() == [0, 0]
    assert sums(least=4)["records"] == 4
    nothing = sums(least=5)
    assert all(not value.any() for value in nothing.values())


def test_sums_of_sites_add_up_and_codes_are_counted_together() -> None:
    other = COLUMNS.of([(torch.tensor([[1.0, 1.0, 3.0], [1.0, 1.0, 3.0], [1.0, 1.0, 7.0], [1.0, 1.0, 7.0]]), TARGETS)])
    total = added([sums(), other])
    assert total["records"] == 8
    assert total["counts"].tolist() == [7, 4]
    assert (total["codes_0"].tolist(), total["code_counts_0"].tolist()) == ([3, 7], [2, 4])


def test_too_many_categories_are_refused() -> None:
    records = torch.arange(3000.0)[:, None].repeat(1, 3)
    with pytest.raises(InputError, match="categorical column 1 has 3000 categories"):
        Columns(2, 1, False, 1, torch.empty(0, 2), 1).of([(records, torch.zeros(3000))])


LIES: dict[str, tuple[Callable[[Sums], Any], str]] = {
    "another name": (lambda found: found.update(more=found["sums"]), "other names"),
    "a name lacks": (lambda found: found.pop("counts"), "other names"),
    "a shape": (lambda found: found.update(sums=torch.zeros(3, dtype=torch.float64)), "sums have another shape"),
    "a dtype": (lambda found: found.update(sums=torch.zeros(2)), "sums have another shape or type"),
    "no tensor": (lambda found: found.update(sums=[0.0, 0.0]), "sums have another shape or type"),
    "NaN": (lambda found: found["sums"].fill_(NAN), "sums are not finite"),
    "more records": (lambda found: found["records"].fill_(5), "not those of 4 records"),
    "fewer than none": (lambda found: found["counts"].fill_(-1), "not those of 4 records"),
    "more values than records": (lambda found: found["counts"].fill_(5), "not those of 4 records"),
    "a sum of none": (lambda found: found["counts"].zero_(), "not those of 4 records"),
    "squares below the sum's": (lambda found: found["squares"].mul_(0.3), "not those of 4 records"),
    "squares below zero": (lambda found: found["squares"].neg_(), "not those of 4 records"),
    "targets": (lambda found: found["target_sums"].copy_(torch.tensor([10.0, 20.0])), "not those of 4 records"),
    "a count below zero": (lambda found: found["histogram"][0, 0].fill_(-1), "not those of 4 records"),
    "more counted": (lambda found: found["histogram"].fill_(2), "not those of 4 records"),
    "codes that fall": (lambda found: _codes(found, [7, 3], [2, 2]), "codes_0 are not those"),
    "codes twice": (lambda found: _codes(found, [7, 7], [2, 2]), "codes_0 are not those"),
    "codes without counts": (lambda found: _codes(found, [3, 7], [2]), "codes_0 are not those"),
    "a code below zero": (lambda found: _codes(found, [-1], [2]), "codes_0 are not those"),
    "a code too great": (lambda found: _codes(found, [2**23], [2]), "codes_0 are not those"),
    "too few of one": (lambda found: _codes(found, [7], [1]), "codes_0 are not those"),
    "too many of all": (lambda found: _codes(found, [3, 7], [3, 3]), "codes_0 are not those"),
    "too many codes": (lambda found: _codes(found, list(range(2000)), [2] * 2000), "codes_0 have another shape"),
}  # fmt: skip


def _codes(found: Sums, codes: list[int], counts: list[int]) -> None:
    found.update(codes_0=torch.tensor(codes), code_counts_0=torch.tensor(counts))


def test_what_a_site_has_made_is_taken() -> None:
    assert COLUMNS.check(sums(), 4).keys() == sums().keys()
    for least in (4, 5):
        COLUMNS.check(sums(least=least), 4)


@pytest.mark.parametrize("lie", LIES)
def test_what_cannot_be_so_is_refused(lie: str) -> None:
    found: dict[str, Tensor] = sums()
    change, message = LIES[lie]
    change(found)
    with pytest.raises(InputError, match=re.escape(message)):
        COLUMNS.check(found, 4)

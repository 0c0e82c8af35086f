from typing import Any

import pytest

from lit_dist.datamodules.images.class_choice import choose_classes
from lit_dist.utils.errors import InputError

KNOWN = ["ape", "bee", "cat", "dog", "elk"]


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (None, {name: [name] for name in KNOWN}),
        (2, {"ape": ["ape"], "bee": ["bee"]}),
        (["dog", "ape"], {"dog": ["dog"], "ape": ["ape"]}),
        ([4, "ape", "1-2"], {"elk": ["elk"], "ape": ["ape"], "bee": ["bee"], "cat": ["cat"]}),
        ({"pet": ["2-3"], "wild": ["elk", 0]}, {"pet": ["cat", "dog"], "wild": ["elk", "ape"]}),
    ],
)
def test_classes_by_number_name_range_and_group(classes: Any, expected: dict[str, list[str]]) -> None:
    chosen = choose_classes(KNOWN, classes, "here")
    assert chosen == expected
    assert list(chosen) == list(expected)


def test_a_name_goes_before_a_range_and_a_number_that_may_be_a_name_is_refused() -> None:
    known = ["0", "1", "10", "1-2", "2"]
    assert choose_classes(known, ["1-2", "10", 0], "here") == {"1-2": ["1-2"], "10": ["10"], "0": ["0"]}
    with pytest.raises(InputError, match="2 may mean the class of that name or '10'; write the names in quotes"):
        choose_classes(known, [2], "here")

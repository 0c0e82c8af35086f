from typing import Any

import pytest

from lit_dist.runs.changed_settings import changed_settings

BEFORE = {"model": {"optimizer": "lit_dist.classifier._adam", "lr": 0.1}, "sites": ["a", "b"], "seed": None}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, []),
        ({"seed": {}, "new": None}, []),
        ({"sites": ["a", "c"]}, [("sites.1", "b", "c")]),
        ({"sites": ["a"]}, [("sites.1", "b", None)]),
        (
            {"model": {"optimizer": {"class_path": "SGD"}, "lr": 0.1}},
            [("model.optimizer", "lit_dist.classifier._adam", {"class_path": "SGD"})],
        ),
    ],
)
def test_what_differs_is_named_whole_and_what_holds_nothing_does_not_differ(change: Any, found: Any) -> None:
    assert list(changed_settings(BEFORE, {**BEFORE, **change})) == found

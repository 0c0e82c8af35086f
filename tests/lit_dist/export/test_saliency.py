"""Which records are shown where models look; the study itself is tried in ``cli/test_compare.py``."""

import pandas as pd

from lit_dist.export.saliency import surest
from lit_dist.tasks.classification import Classification
from lit_dist.tasks.multilabel import MultiLabel


def saved(labels: list[object], *chances: list[float]) -> pd.DataFrame:
    columns = {f"probability_{number}": values for number, values in enumerate(chances)}
    images = [f"image-{number}" for number in range(len(labels))]
    return pd.DataFrame({"site": "a", "image": images, "patient": images, "label": labels, **columns})


def test_the_surest_right_records_come_first_then_the_surest_wrong_ones() -> None:
    sick = [0.9, 0.1, 0.6, 0.3, 0.95, 0.2]
    found = surest(Classification(["well", "sick"]), saved([1, 1, 1, 0, 0, 1], [1 - p for p in sick], sick), 2)
    assert list(found["image"]) == ["image-0", "image-3", "image-4", "image-1"]
    assert list(found["right"]) == [True, True, False, False]
    assert list(found["truth"]) == ["sick", "well", "well", "sick"]
    assert list(found["said"]) == ["sick", "well", "sick", "well"]
    assert [round(chance, 2) for chance in found["chance"]] == [0.9, 0.7, 0.95, 0.9]
    assert list(found["target"]) == [1, 0, 1, 0]


def test_of_findings_each_is_an_answer_and_one_rightly_absent_shows_nothing() -> None:
    found = surest(MultiLabel(["cataract", "drusen"]), saved(["10", "01"], [0.8, 0.01], [0.7, 0.4]), 5)
    rows = found[["image", "truth", "said", "target", "right"]].to_numpy().tolist()
    assert rows == [
        ["image-0", "cataract present", "present", 0, True],
        ["image-0", "drusen absent", "present", 1, False],
        ["image-1", "drusen present", "absent", 1, False],
    ]
    assert [round(chance, 2) for chance in found["chance"]] == [0.8, 0.7, 0.6]

from pathlib import Path

import pytest
import torch

from lit_dist.report.results import predictions
from lit_dist.study.execute import read_predictions, read_result, result_path
from lit_dist.tasks.classification import Classification
from lit_dist.utils.errors import InputError
from saved_runs import GOOD, LABELS, POOR, TASK, results, saved


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[]", b"\xff", b'{"n": {"a": 1}}', b"[" * 100_000])
def test_a_damaged_result_says_how_the_run_is_done_again(content: bytes, tmp_path: Path) -> None:
    path = result_path(tmp_path, "central-seed_0")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"result\.json is damaged; delete the folder .*central-seed_0, and the same"):
        read_result(tmp_path, "central-seed_0")


HEAD = b"site,image,patient,label,probability_0,probability_1\n"


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"site,image\n", HEAD + b"a,i,p,0,.5,x\n", HEAD + b"a,i,p,0,.5,.5,.5,.5\na,i\n", HEAD[5:]]
)
def test_damaged_predictions_say_how_the_run_is_done_again(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "central-seed_0" / "fit" / "predictions.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(
        InputError, match=r"predictions\.csv is damaged; delete the folder .*central-seed_0, and the same"
    ):
        read_predictions(Classification(2), path)
    path.write_bytes(HEAD + b"a,i,p,0,.5,.5\n")
    assert read_predictions(Classification(2), path)["label"].tolist() == [0]


def test_a_value_is_the_mean_over_seeds_and_records_are_put_together_by_image() -> None:
    saved("one", GOOD, LABELS)
    saved("two", dict(reversed(POOR.items())), LABELS)
    found = predictions(Path(), results(("one", "central", 0), ("two", "central", 1)), TASK)
    assert found.patients.tolist() == [0, 0, 1, 2, 3, 3]
    once = torch.ones(1, 6, dtype=torch.float64)
    assert found.values(TASK, "accuracy", once)[:, 0].tolist() == [1.0, pytest.approx(1 / 6)]
    assert found.values(TASK, "auroc", once)[:, 0].tolist() == [1.0, pytest.approx(1 / 9)]
    saved("three", {"b1": 0.5}, LABELS)
    with pytest.raises(InputError, match=r"runs/three/fit/predictions\.csv has other records"):
        predictions(Path(), results(("one", "central", 0), ("three", "central", 1)), TASK)

from pathlib import Path

import pytest

from lit_dist.study.execute import read_predictions, read_result, result_path
from lit_dist.tasks.classification import Classification
from lit_dist.utils.errors import InputError


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

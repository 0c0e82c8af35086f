from typing import Any

import pytest

from lit_dist import InputError
from small_study import settings


def test_a_study_is_read_with_its_defaults_and_options() -> None:
    found = settings("--seeds", "[3,4]", "--data.patients", "30")
    assert found.study.seeds == [3, 4]
    assert found.study.patience == 5
    assert found.data["init_args"]["patients"] == 30
    assert found.trainer == {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"passes": 0}, "passes=0 counts from 1"),
        ({"jobs": 0}, "jobs=0 counts from 1"),
        ({"passes": 6, "every_n_epochs": [1, 4]}, "visits of 4 epochs do not divide passes=6"),
        ({"seeds": []}, r"seeds=\[\] must name at least one"),
        ({"seeds": [1, 1]}, "none twice"),
        ({"trainer": {"max_epochs": 3}}, r"trainer\.max_epochs is set by the study itself"),
        ({"trainer": {"logger": False}}, r"trainer\.logger is set by the study itself"),
        ({"trainer": {"devices": 2}}, r"trainer\.devices=2 would make several processes of a run"),
        ({"trainer": {"devices": "0,1"}}, r"leave it out; with several GPUs, jobs=2 trains two runs at once"),
        ({"trainer": {"num_nodes": 2}}, r"trainer\.num_nodes=2 would make several processes of a run"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        settings(**changes)


@pytest.mark.parametrize("devices", [1, "1", "auto"])
def test_one_device_may_be_named(devices: Any) -> None:
    assert settings(trainer={"devices": devices}).study.collection == "small"


@pytest.mark.parametrize(
    "changes", [{"heuristics": ["voting"]}, {"passes": "many"}, {"data": {"class_path": "Nothing"}}, {"unknown": 1}]
)
def test_what_is_no_setting_is_refused_by_the_parser(
    changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        settings(**changes)
    said = capsys.readouterr().err
    assert "usage: lit-dist compare --config FILE" in said
    assert str(next(iter(changes))) in said

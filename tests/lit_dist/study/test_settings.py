from typing import Any

import pytest

from lit_dist import InputError
from lit_dist.study.settings import study_folder, with_lists
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
        ({"trainer": {"limit_train_batches": 0}}, r"trainer\.limit_train_batches=0 trains nothing"),
        ({"jobs": 0}, "jobs=0 counts from 1"),
        ({"passes": 6, "every_n_epochs": [1, 4]}, "visits of 4 epochs do not divide passes=6"),
        ({"seeds": [-1]}, r"seeds=-1 is not a number from 0 to 4294967295"),
        ({"seeds": [2**32]}, r"seeds=4294967296 is not a number from 0"),
        ({"jobs": 10**6}, "jobs=1000000 is more than"),
        ({"trainer": {"accumulate_grad_batches": 0}}, r"trainer\.accumulate_grad_batches=0"),
        ({"seeds": []}, r"seeds=\[\] must name at least one"),
        ({"seeds": [1, 1]}, "none twice"),
        ({"trainer": {"max_epochs": 3}}, r"trainer\.max_epochs is set by the study itself"),
        ({"trainer": {"logger": False}}, r"trainer\.logger is set by the study itself"),
        ({"trainer": {"fast_dev_run": True}}, r"trainer\.fast_dev_run is for trying .* passes=1"),
        ({"trainer": {"overfit_batches": 2}}, r"trainer\.overfit_batches is for trying"),
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
def test_what_is_no_setting_is_refused_by_the_parser(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=str(next(iter(changes)))):
        settings(**changes)


@pytest.mark.parametrize("words", [["0,1"], ["0", "1"], ["[0,1]"], ["0,", "1"], ["[0,", "1]"]])
def test_a_list_may_be_written_in_the_ways_that_people_write_one(words: list[str]) -> None:
    assert settings("--seeds", *with_lists(["--seeds", *words])[1:]).study.seeds == [0, 1]
    assert with_lists([f"--seeds={words[0]}", *words[1:], "--jobs", "2"])[2:] == ["--jobs", "2"]


def test_names_in_a_list_need_no_brackets() -> None:
    assert with_lists(["--heuristics", "central", "single", "--jobs=2"]) == [
        "--heuristics",
        "[central, single]",
        "--jobs=2",
    ]


@pytest.mark.parametrize("name", ["", "..", "a/b", "../../x", "a\nb"])
def test_a_collection_whose_name_is_no_folder_needs_one(name: str) -> None:
    study = settings(collection=name).study
    with pytest.raises(InputError, match="--output FOLDER"):
        study_folder(None, study)
    assert str(study_folder("here", study)) == "here"

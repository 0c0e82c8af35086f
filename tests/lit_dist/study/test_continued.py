"""A second command in a study's folder resumes that study, or changes nothing."""

import os
from pathlib import Path
from typing import Any

import pytest
from one_sentence import refused

from lit_dist import InputError
from lit_dist.cli.compare import main
from lit_dist.study.continued import check_files
from small_study import written

STUDY = Path("study")


def words(**changes: Any) -> list[str]:
    return ["--config", str(written(Path("small.yaml"), **changes)), "--output", str(STUDY), "--print-commands"]


def contents() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in STUDY.rglob("*") if path.is_file() and path.name != "lock"}


@pytest.fixture
def planned(capsys: pytest.CaptureFixture[str]) -> dict[str, bytes]:
    """What a study's folder holds after its plan was made."""
    main(words(heuristics=["central"], seeds=[0, 1]))
    capsys.readouterr()
    return contents()


CHANGES: list[tuple[dict[str, Any], list[str], str]] = [
    ({"passes": 6}, [], "passes is 6, but it was 2 in the study in study"),
    ({"monitor": "val_accuracy", "mode": "max"}, [], "mode is 'max'"),
    ({"collection": "another"}, [], "collection is 'another'"),
    ({"seeds": [1, 2]}, [], "seeds lacks 0, which the study in study has"),
    ({"heuristics": ["single"]}, [], "heuristics lacks 'central'"),
    ({}, ["--data.patients=44"], "data.init_args.patients is 44"),
    ({}, ["--model.dropout=0.5"], "model.init_args.dropout is 0.5"),
    ({}, ["--trainer.accumulate_grad_batches=2"], "trainer.accumulate_grad_batches is 2"),
]


@pytest.mark.slow
def test_other_settings_are_refused_and_nothing_is_changed(
    planned: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    for changes, more, message in CHANGES:
        given = {"heuristics": ["central"], "seeds": [0, 1], **changes}
        assert message in refused(["compare", *words(**given), *more], capsys)
        assert contents() == planned


@pytest.mark.slow
def test_a_heuristic_keeps_its_meaning_under_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    def mine(mu: float, name: str = "mine") -> dict[str, Any]:
        transfer = {"class_path": "CyclicalWeightTransfer", "init_args": {"every_n_epochs": 1}}
        return {"name": name, "callbacks": [transfer, {"class_path": "FedProx", "init_args": {"mu": mu}}]}

    main(words(heuristics=["central", mine(0.1)]))
    before = contents()
    told = "callbacks.1.init_args.mu of the heuristic 'mine' is 0.2, but it was 0.1 in the study in study"
    assert told in refused(["compare", *words(heuristics=["central", mine(0.2)])], capsys)
    assert "heuristics lacks 'mine'" in refused(["compare", *words(heuristics=["central"])], capsys)
    assert contents() == before
    main(["--config", str(STUDY / "study.yaml"), "--output", str(STUDY), "--print-commands"])
    assert contents() == before
    main(words(heuristics=[mine(0.2, "other"), mine(0.1), "central"]))
    runs = {name: content for name, content in before.items() if "runs" in name}
    assert len(runs) == 2
    assert runs.items() < contents().items()


def test_a_study_whose_settings_are_gone_gives_way_to_no_other(
    planned: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    (STUDY / "study.yaml").unlink()
    left = contents()
    assert left
    said = refused(["compare", *words(heuristics=["central"], seeds=[0, 1], passes=1)], capsys)
    assert "study.yaml is gone, and its study has runs: put back a copy, or give another --output" in said
    assert contents() == left


def test_the_same_and_more_of_it_go_on(planned: dict[str, bytes]) -> None:
    main(words(heuristics=["central"], seeds=[0, 1]))
    assert contents() == planned
    main([*words(heuristics=["single", "central"], seeds=[0, 1, 2]), "--jobs=2", "--data.num_workers=1"])
    runs = {name: content for name, content in planned.items() if "runs" in name}
    assert len(runs) == 2
    assert set(runs) < set(contents())


def test_a_pipe_in_the_folder_is_named_before_anything_is_written() -> None:
    for name in ["study.yaml", "results.csv", "report.html", "lock", "figures", "runs"]:
        os.mkfifo(name)
        with pytest.raises(InputError, match=f"{name} is a pipe"):
            check_files(Path(), [])
        assert os.listdir() == [name]
        os.unlink(name)


def test_a_run_whose_plan_is_a_pipe_is_named(planned: dict[str, bytes], capsys: pytest.CaptureFixture[str]) -> None:
    plan = next(path for path in map(Path, planned) if path.name == "plan.json")
    plan.unlink()
    os.mkfifo(plan)
    assert f"{plan} is a pipe" in refused(["compare", *words(heuristics=["central"], seeds=[0, 1])], capsys)


def test_a_seed_of_fit_is_answered_with_the_seeds_of_a_study(capsys: pytest.CaptureFixture[str]) -> None:
    told = "there is no setting 'seed_everything'; did you mean seeds?"
    assert refused(["compare", *words(seed_everything=1)], capsys) == told
    assert refused(["compare", *words(), "--seed_everything=1"], capsys).endswith("did you mean --seeds?")

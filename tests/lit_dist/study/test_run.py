from dataclasses import replace
from pathlib import Path

import pytest

from lit_dist import InputError
from lit_dist.study.plan import make_plan
from lit_dist.study.run import read_run, run_path
from small_study import settings

OWN = {"name": "mine", "callbacks": [{"class_path": "CyclicalWeightTransfer", "init_args": {"every_n_epochs": 1}}]}


def test_a_run_comes_back_as_it_was_written(tmp_path: Path) -> None:
    for run in make_plan(settings(heuristics=["ensemble", OWN], wandb={"project": "x"})):
        run.write(tmp_path)
        assert read_run(run_path(tmp_path, run.name)) == run
    changed = replace(run, wandb=None)
    changed.write(tmp_path)
    assert read_run(run_path(tmp_path, run.name)) == changed


@pytest.mark.parametrize("content", [None, "{", "[]", '{"name": "x"}', '{"members": 3}'])
def test_a_folder_without_a_plan_is_refused(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "plan.json").write_text(content)
    with pytest.raises(InputError, match="has no plan of a run"):
        read_run(tmp_path)

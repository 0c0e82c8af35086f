"""Programs: for every task, torch runs what a model predicts, of any number of records."""

from pathlib import Path
from typing import get_args

import pytest
import torch

from lit_dist import TabularPredictor
from lit_dist.export.programs import Exported, TableProgram, save
from lit_dist.tasks.named import TaskName


@pytest.mark.parametrize("task", get_args(TaskName))
def test_a_program_of_any_task_takes_any_number_of_records(task: TaskName, tmp_path: Path) -> None:
    classes = None if task in ("regression", "survival") else 3
    module = TabularPredictor(task, classes, numeric=2, categorical=1, hidden=[], least=1).eval()
    learnt = torch.tensor([[1.0, 20.0, 3.0], [2.0, 10.0, 3.0]]), torch.tensor([40.0, 70.0])
    module.preparation.learn([module.preparation.columns.of([learnt])])
    save(Exported(TableProgram(module).eval(), torch.zeros(2, 3), {}, {}, {}), tmp_path / "model.pt2")
    program = torch.export.load(tmp_path / "model.pt2").module()
    for records in (1, 5):
        values = torch.tensor([[torch.nan, 12.0, 3.0]] * records)
        torch.testing.assert_close(program(values), module.predict_step(values, 0))

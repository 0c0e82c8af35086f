from typing import Any

import pytest

from lit_dist.study.continued import _MAY_GROW, check_same
from lit_dist.study.plan import make_plan
from lit_dist.utils.errors import InputError
from small_study import settings


def test_a_setting_of_the_report_changes_no_run(tmp_path: Any) -> None:
    plain, asked = settings(), settings(report={"sensitivity": 0.9})
    assert (plain.study.report.sensitivity, asked.study.report.sensitivity) == (None, 0.9)
    assert str(asked.study.report) == "for a sensitivity of 0.9 on the validation records"
    assert make_plan(plain) == make_plan(asked)
    (tmp_path / "study.yaml").write_text("report: {sensitivity: null}\n")
    check_same(tmp_path, {**{name: list[str]() for name in _MAY_GROW}, "report": {"sensitivity": 0.9}})


@pytest.mark.parametrize(
    ("report", "what"),
    [({"sensitivity": 90}, "report.sensitivity=90"), ({"sensitivity": 0.9, "specificity": 0.8}, "set one")],
)
def test_a_threshold_that_cannot_be_is_refused(report: dict[str, float], what: str) -> None:
    with pytest.raises(InputError, match=what):
        settings(report=report)

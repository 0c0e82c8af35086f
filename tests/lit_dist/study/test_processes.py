import json
from pathlib import Path

import pytest

from lit_dist.checkpoints.run_lock import held
from lit_dist.study.execute import result_path
from lit_dist.study.processes import Workers
from lit_dist.study.run import Run, run_path


def test_a_run_that_another_process_has_is_said_to_be_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run("theirs", "central", 0, 1, {})
    run.write(tmp_path)
    looks = []

    def look(_: float) -> None:
        looks.append(1)
        if len(looks) == 3:
            result_path(tmp_path, "theirs").write_text(json.dumps({}))

    monkeypatch.setattr("lit_dist.study.processes.time.sleep", look)
    with held(run_path(tmp_path, "theirs")):
        assert Workers(tmp_path, [run], 1).work() == {}
    assert capsys.readouterr().out.count("Another process has theirs; it is waited for.") == 1

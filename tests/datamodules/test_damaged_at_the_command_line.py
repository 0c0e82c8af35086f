"""What a user sees of damaged inputs: one message, no traceback, and a run of the rest if that is asked for."""

from pathlib import Path

import pandas as pd
import pytest

from damaged import COLLECTIONS, Damage, append, cut, edit, png, put
from lit_dist.cli.main import main

pytestmark = pytest.mark.timeout(60)

CASES: dict[str, tuple[str, str, Damage, str]] = {
    "fundus": ("fundus", "trainLabels.csv", append("../../etc/passwd,0\n"), "row 34: '../../etc/passwd' leads out of"),
    "mammography": ("mini-MIAS", "mdb005.pgm", put(png(60_000, 60_000)), "mdb005.pgm: "),
    "imagenet": ("Tiny-ImageNet", "val/val_annotations.txt", edit("val_0.JPEG", "/etc/passwd"), "line 1: '/etc/passwd"),
}


def words(name: str, root: Path) -> list[str]:
    collection = CASES[name][0]
    settings = {"size": 16, "sites": 1, "allow_one_class": "true", **COLLECTIONS[collection].settings}
    given = [f"--data.{key}={value}" for key, value in settings.items()]
    given += ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    return ["fit", "--config", f"configs/{name}/central.yaml", f"--data.root={root}", *given]


@pytest.mark.parametrize("name", CASES)
def test_one_message_and_no_traceback(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    collection, file, damage, message = CASES[name]
    damage(COLLECTIONS[collection].copy(tmp_path / "root") / file)
    with pytest.raises(SystemExit) as exit_:
        main(words(name, tmp_path / "root"))
    shown = capsys.readouterr().err
    assert exit_.value.code == 1
    assert shown.count("lit-dist: ") == 1
    assert message in shown
    assert "Traceback" not in shown


def test_a_run_leaves_damaged_photographs_out(tmp_path: Path) -> None:
    root = COLLECTIONS["Tiny-ImageNet"].copy(tmp_path / "root")
    cut(0.5)(root / "train/cat/images/cat_3.JPEG")
    (root / "val/images/val_0.JPEG").unlink()
    with pytest.warns(UserWarning, match="left out") as warned:
        main([*words("imagenet", root), "--data.on_error=skip", "--model.num_classes=3"])
    shown = [text for warning in warned if "left out" in (text := str(warning.message))]
    assert ["val/images/val_0.JPEG" in text for text in shown] == [True, False]
    assert "cat_3.JPEG" in shown[1]
    splits = pd.read_csv("runs/imagenet/central/version_0/splits.csv")
    assert len(splits) == 22

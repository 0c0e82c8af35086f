"""``lit-dist export``: what it writes is used by a program that has torch and safetensors alone."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lit_dist import InputError
from lit_dist.cli.main import main as command
from lit_dist.datamodules import PhantomDataModule
from lit_dist.datamodules.table_columns import code
from lit_dist.export import exported
from lit_dist.export.exported import export, interval
from lit_dist.export.model_card import as_markdown
from lit_dist.export.programs import Exported
from lit_dist.study.execute import judged, read_predictions
from lit_dist.tasks.classification import Classification

pytestmark = pytest.mark.slow
ALONE = """
import sys
sys.modules |= {"lit_dist": None, "lightning": None}
"""
SCRIPT = (
    ALONE
    + """
import numpy, torch, torchvision
from safetensors.torch import load_file
images = torch.from_numpy(numpy.load("images.npy"))
model = torch.export.load("export/model.pt2").module()
numpy.save("program.npy", model(images).detach().numpy())
network = torchvision.models.get_model("squeezenet1_1", num_classes=2)
network.load_state_dict(load_file("export/model.safetensors"))
"""
)
FIVE_LINES = (
    ALONE
    + """
import torch
from safetensors.torch import load_file
model = torch.export.load("export/model.pt2").module()
values = torch.tensor([[float("nan"), 170.0, 1.0, CODE], [80.0, 160.0, 0.0, float("nan")]])
print(model(values)[:, 1].tolist(), load_file("export/model.safetensors")["preparation.mean"].tolist())
"""
)


@pytest.fixture(scope="module", autouse=True)
def _exported(run: Path) -> None:
    command(["export", str(run)])


def test_a_script_without_lit_dist_predicts_what_the_run_did(run: Path) -> None:
    data = PhantomDataModule(patients=20, size=32)
    images, _ = data.dataset(["site-2"], "test").__getitems__(range(3))
    np.save(run / "images.npy", images.contiguous().numpy())
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=run, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(run / "predictions.csv").query("site == 'site-2'")
    expected = table[["probability_0", "probability_1"]].to_numpy()
    assert np.load(run / "program.npy") == pytest.approx(expected, abs=1e-5)


def test_the_card_has_what_the_run_knows_and_leaves_the_rest_visibly_blank(run: Path) -> None:
    card = json.loads((run / "export/card.json").read_text())
    assert card["classes"] == ["healthy", "referable"]
    assert [row["site"] for row in card["test"]] == ["all sites", "site-1", "site-2", "site-3", "site-4"]
    assert sum(row["n"] for row in card["test"][1:]) == card["test"][0]["n"] == 12
    assert card["records_by_site"][0]["training: healthy"] == 7
    assert card["training"]["visits"] == 4
    text = (run / "export/card.md").read_text()
    assert "## Intended use\n\n_Not filled in" in text
    assert "SiteStatistics)" not in text, "the network has no batch normalisation"
    card["network"] |= {"batch_normalisation": True, "backbone": "resnet18"}
    assert "(SiteStatistics), and the files hold those that\ntravelled" in as_markdown(card)
    assert "layer.reset_running_stats()" in as_markdown(card)


def test_what_cannot_be_exported_is_said(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.yaml is not the configuration"):
        export(tmp_path, None, tmp_path / "export")
    with pytest.raises(InputError, match=r"there is no .*nowhere.ckpt; name the checkpoint"):
        export(run, tmp_path / "nowhere.ckpt", tmp_path / "export")
    with pytest.raises(InputError, match=r"there is no .*nowhere\.csv"):
        export(run, None, tmp_path / "export", tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.iloc[:-2], r"which is not there \(2 such records\)"),
        (lambda rows: pd.concat([rows, rows.iloc[:1]]), "twice"),
        (lambda rows: rows.assign(label=1 - rows["label"]), r"has another patient or label there \(12 such records\)"),
        (lambda rows: rows.assign(image="x" + rows["image"]), "no test record of the run"),
        (lambda rows: rows.assign(probability_1=np.nan), "is damaged, or no table of predictions"),
        (lambda rows: rows[["site"]], "is damaged, or no table of predictions of a classification of 2 classes"),
    ],
)
def test_a_card_does_not_judge_predictions_of_other_records(
    change: Callable[[pd.DataFrame], pd.DataFrame], message: str, run: Path, tmp_path: Path
) -> None:
    path = tmp_path / "predictions.csv"
    change(pd.read_csv(run / "predictions.csv")).to_csv(path, index=False)
    with pytest.raises(InputError, match=message):
        export(run, None, tmp_path / "export", path)
    assert not (tmp_path / "export").exists()


def test_an_interval_is_of_patients_and_holds_the_value(run: Path) -> None:
    rows = read_predictions(Classification(2), run / "predictions.csv")
    chances = np.random.default_rng(0).random(len(rows))  # so small a run gives all images nearly the same
    rows = rows.assign(probability_1=chances, probability_0=1 - chances)
    low, high = interval(Classification(2), rows, draws=200)
    area = judged(Classification(2), rows)["auroc"]
    assert 0 <= low < area < high <= 1
    one = rows.assign(patient="the same")  # all images of a patient are drawn together, so nothing varies
    assert interval(Classification(2), one, draws=20) == pytest.approx((area, area))


def test_a_model_of_a_table_takes_raw_values_without_lit_dist(run_on_table: Path) -> None:
    command(["export", str(run_on_table)])
    card = json.loads((run_on_table / "export/card.json").read_text())
    assert card["input"]["numeric_columns"] == ["weight", "height", "smoker"]
    assert card["input"]["columns_of_categories"] == ["blood"]
    assert code("A") in card["input"]["known_codes"]["blood"]
    assert [row["site"] for row in card["records_by_site"]] == ["a", "b", "c"]
    script = FIVE_LINES.replace("CODE", str(float(code("A"))))
    done = subprocess.run([sys.executable, "-c", script], cwd=run_on_table, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    Path("people.csv").write_text("weight,height,smoker,blood\n,170,1,A\n80,160,0,\n")
    command(["predict", str(run_on_table), "--table", "people.csv"])
    expected = pd.read_csv("people_predictions.csv")["yes"].tolist()
    assert json.loads(done.stdout.partition("] ")[0] + "]") == pytest.approx(expected, abs=1e-6)
    text = (run_on_table / "export/card.md").read_text()
    assert "torch.full((1, 4), torch.nan)" in text
    assert "numeric columns: weight, height, smoker" in text


def test_a_sites_own_batch_normalisation_is_exported(
    run_by_site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, _ = PhantomDataModule(patients=20, size=32).dataset(["site-2"], "test").__getitems__(range(3))

    def save(each: Exported, path: Path) -> None:  # torch takes long to trace this network
        torch.save(each.program(images), path)

    monkeypatch.setattr(exported, "save", save)
    command(["export", str(run_by_site), "--site=site-2", f"--output={tmp_path}"])
    found = torch.load(tmp_path / "model.pt2", weights_only=True)
    expected = pd.read_csv(run_by_site / "predictions.csv").query("site == 'site-2'")["probability_1"]
    assert found[:, 1].tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    card = json.loads((tmp_path / "card.json").read_text())
    assert "- statistics: batch normalisation of site site-2" in as_markdown(card)
    assert "each site (LocalBatchNorm)" not in as_markdown(card)
    del card["network"]["statistics"]
    assert "each site (LocalBatchNorm)" in as_markdown(card)

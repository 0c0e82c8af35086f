"""Each example is run as a user runs it."""

import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest

import program
from lit_dist.cli.main import main as command
from real_data import real_folder

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, *words: str) -> str:
    done = program.run(EXAMPLES / name, *words, timeout=280)
    # With two processes, gloo's threads now and then abort a process that has already ended its work.
    assert done.returncode == 0 or words, done.stderr
    return done.stdout


def ledger(folder: str) -> list[dict[str, object]]:
    [path] = Path("runs").glob(f"{folder}/**/ledger.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_example_is_tested() -> None:
    tests = Path(__file__).read_text()
    assert all(f'"{path.name}"' in tests for path in EXAMPLES.glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
def test_an_existing_project_learns(processes: str) -> None:
    shown = run("existing_project.py", *([processes] if processes == "2" else []))
    assert float(shown.split("validation accuracy ")[1].split(";")[0]) > 0.8
    lines = ledger("existing_project")
    assert [line["site"] for line in lines] == ["mgh", "ucsf", "charite"] * 4
    assert [line["images"] for line in lines] == [320, 160, 240] * 4


@pytest.mark.slow
def test_a_plain_loop_ends_with_the_same_weights_as_any_number_of_workers() -> None:
    hashes = re.findall(r"^(?:plain loop|lit_dist)\s+([0-9a-f]{64})$", run("reference_loop.py"), flags=re.MULTILINE)
    assert len(hashes) == 2
    assert hashes[0] == hashes[1]
    assert len(ledger("reference")) == 6
    sys.path.insert(0, str(EXAMPLES))
    try:
        import reference_loop
    finally:
        sys.path.remove(str(EXAMPLES))
    assert {reference_loop.run_lit_dist(workers) for workers in (1, 2)} == {hashes[0]}


@pytest.mark.slow
def test_a_new_remedy_sees_every_visit() -> None:
    assert re.match(r"mean of 6 visits, [\d.]+ from", run("new_remedy.py").splitlines()[-1])
    assert len({line["bytes"] for line in ledger("new_remedy")}) == 1


@pytest.mark.slow
def test_a_study_compares_callbacks_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    small = ["--seeds=0", "--passes=2", "--data.patients=36", "--model.backbone_kwargs={width: 4}"]
    words = ["compare", "--config", str(EXAMPLES / "compare.yaml"), *small, "--trainer.accelerator=cpu"]
    command(words)
    study = Path("studies/callbacks")
    table = pd.read_csv(study / "results.csv")
    remedied = [f"cyclical with FedProx, mu={mu}" for mu in ("0.01", "1")]
    assert list(table["heuristic"]) == ["central", "cyclical_weight_transfer", "random walk", *remedied]
    assert set(table["steps"]) == {18}
    assert table["visits"].isna().tolist() == [True, False, False, False, False]
    assert list(pd.read_csv(study / "pairs.csv")["second"].unique()) == [
        "cyclical, every epoch",
        *table["heuristic"][2:],
    ]
    page = (study / "report.html").read_text()
    assert all(page.count(name) > 3 for name in table["heuristic"][2:])
    stamps = {path: path.stat().st_mtime_ns for path in study.glob("runs/*/result.json")}
    walk = next(study.glob("runs/random_walk-*"))
    (walk / "result.json").unlink()
    before = (walk / "fit" / "predictions.csv").read_bytes()
    monkeypatch.setattr("lit_dist.report.report.write_figures", lambda *_: {})  # they are drawn already
    command(words)
    assert (walk / "fit" / "predictions.csv").read_bytes() == before
    again = {path for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp}
    assert again == {walk / "result.json"}


@pytest.mark.slow
def test_a_new_heuristic_walks() -> None:
    run("new_heuristic.py")
    lines = ledger("new_heuristic")
    assert len(lines) == 10
    assert all(line["steps"] == 2 for line in lines)
    assert len({line["sha256_out"] for line in lines}) == 10, "every visit changes the weights"
    assert len({line["site"] for line in lines}) > 2


def test_the_walk_of_a_new_heuristic_is_the_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    from new_heuristic import RandomWalkTransfer

    def walk(seed: int) -> list[str]:
        itinerary = RandomWalkTransfer(every_n_steps=1, seed=seed).itinerary("abcde")
        return [itinerary.site(visit) for visit in range(20)]

    assert walk(1) == walk(1) != walk(2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "folder", "metric", "sites"),
    [
        ("segmentation.py", "mammo_ddsm66", "dice", ["site-A", "site-B", "site-D"]),
        ("detection.py", "mammo_minimias", "froc", ["site-1", "site-2", "site-3"]),
    ],
)
def test_a_module_of_ones_own_is_judged_at_each_site(name: str, folder: str, metric: str, sites: list[str]) -> None:
    shown = run(name, str(real_folder(folder)), "1", "24")
    lines = ledger(Path(name).stem)
    assert [line["site"] for line in lines] == sites
    assert min(int(str(line["images"])) for line in lines) > 3, "each image of a list is counted"
    [path] = Path("runs").glob("**/site_matrix.csv")
    values = dict(zip(*pd.read_csv(path)[["site", "value"]].to_numpy().T, strict=True))
    assert [f"val_{metric}/{site} {value:.3f}" in shown for site, value in values.items()] == [True] * 3

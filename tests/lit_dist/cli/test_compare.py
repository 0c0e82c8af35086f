"""``lit-dist compare``, as a user starts it."""

import contextlib
import io
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import wandb_reader
import yaml

import program
from lit_dist import SiteEnsemble
from lit_dist.cli.compare import main
from lit_dist.cli.main import main as command
from lit_dist.export.saliency import where_models_look
from lit_dist.provenance.verify import verify
from lit_dist.report.figures import FIGURES
from lit_dist.report.results import columns
from lit_dist.report.tables import Tables
from lit_dist.tasks.classification import Classification
from small_study import SMALL, settings, written

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROWS = ["central", "single", "single", "ensemble", "single_weight_transfer", *["cyclical_weight_transfer"] * 2]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole study."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = compare(written(Path("small.yaml")), seeds="[0,1]")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    (folder / "said.txt").write_text(done.stdout)
    return folder / "studies" / "small"


@pytest.fixture(autouse=True)
def _no_figures(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the whole study are drawn; nobody looks at those of the others."""
    monkeypatch.setattr("lit_dist.report.report.write_figures", lambda *_: {})


@pytest.fixture
def study(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished study."""
    return Path(shutil.copytree(finished, tmp_path / "study"))


def words(config: Path, **options: Any) -> list[str]:
    given = [f"--{name}={value}" for name, value in options.items()]
    return ["compare", "--config", str(config), *given]


def compare(config: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command in this process: its runs are forked from one that has imported everything for earlier tests."""
    output, errors, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            command(words(config, **options))
        except SystemExit as end:
            status = int(end.code or 0)
    return subprocess.CompletedProcess([], status, output.getvalue(), errors.getvalue())


def results(study: Path) -> pd.DataFrame:
    return pd.read_csv(study / "results.csv")


def predictions(study: Path, run: str) -> pd.DataFrame:
    return pd.read_csv(study / "runs" / run / "fit" / "predictions.csv")


def probabilities(table: pd.DataFrame) -> Any:
    return table[["probability_0", "probability_1"]].to_numpy()


# -- a whole study -----------------------------------------------------------------------------------------------------


def test_each_run_has_its_row_and_its_record(finished: Path) -> None:
    table = results(finished)
    assert list(table) == columns(Classification(2))
    for seed in (0, 1):
        own = table[table["seed"] == seed]
        assert list(own["heuristic"]) == ROWS
        assert set(own["n"]) == {12}
        assert list(own["visits"].fillna(-1))[-2:] == [4, 2]
        assert list(own["transfers"])[-3:] == [1, 3, 1]
        # A ResNet-18 of width 4: weights and buffers, as often as they were sent.
        size = own.iloc[-2]["bytes_sent"] / 3
        assert list(own["bytes_sent"]) == [0, 0, 0, 2 * size, size, 3 * size, size]
        assert list(own["steps"]) == [16, 8, 8, 0, 16, 16, 16]
    for run in table[table["visits"].notna()]["run"]:
        assert "the chain is whole" in verify(finished / "runs" / run / "fit")


def test_each_run_keeps_what_it_predicts_of_the_validation_records_that_it_may_see(finished: Path) -> None:
    for row in results(finished).to_dict("records"):
        fit = finished / "runs" / row["run"] / "fit"
        found = pd.read_csv(fit / "validation_predictions.csv")
        splits = pd.read_csv(next(finished.glob("runs/central*/fit/splits.csv"))).query("split == 'val'")
        own = splits if row["kind"] != "single" else splits[splits["site"] == row["site"]]
        assert sorted(found["image"]) == sorted(own["image"])
        assert not set(found["image"]) & set(predictions(finished, row["run"])["image"])
        assert not found["probability_1"].equals(predictions(finished, row["run"])["probability_1"])


def test_results_are_those_of_the_saved_predictions(finished: Path) -> None:
    for row in results(finished).to_dict("records"):
        table = predictions(finished, row["run"])
        right = probabilities(table).argmax(axis=1) == table["label"]
        assert row["accuracy"] == pytest.approx(right.mean())
        assert row["loss"] == pytest.approx(
            -np.log(probabilities(table)[np.arange(len(table)), table["label"]]).mean(), rel=1e-5
        )
        assert row["majority_rate"] == pytest.approx(max(table["label"].mean(), 1 - table["label"].mean()))
        assert len(table["image"].unique()) == len(table) == 12


def test_the_values_of_sites_are_parts_of_those_of_all(finished: Path) -> None:
    sites = pd.read_csv(finished / "sites.csv")
    assert list(sites["tested_at"]) == ["site-1", "site-2"] * 14
    sites["right"] = sites["accuracy"] * sites["n"]
    whole = sites.groupby("run")[["right", "n"]].sum()
    table = results(finished).set_index("run")
    assert whole["n"].loc[table.index].tolist() == table["n"].tolist()
    assert (whole["right"] / whole["n"]).loc[table.index].tolist() == pytest.approx(table["accuracy"].tolist())


def test_an_ensemble_is_the_mean_of_the_single_institution_models(finished: Path) -> None:
    table = results(finished)
    for seed in (0, 1):
        own = table[table["seed"] == seed].set_index("heuristic")["run"]
        members = [probabilities(predictions(finished, run)) for run in own["single"]]
        assert probabilities(predictions(finished, own["ensemble"])) == pytest.approx(
            np.mean(members, axis=0), abs=1e-6
        )
        assert not np.allclose(*members)


def test_the_best_model_of_a_run_gives_its_predictions(finished: Path) -> None:
    run = results(finished)["run"].iloc[-1]
    best = finished / "runs" / run / "fit" / "checkpoints" / "best.ckpt"
    values = pd.read_csv(finished / "runs" / run / "fit" / "metrics.csv")["val_loss"].dropna()
    assert len(values) == 1  # two epochs at two sites are one cycle
    model = SiteEnsemble.from_checkpoints([best]).eval()
    data = settings("--data.patients", "40").data
    from lit_dist.runs.lightning_cli import own_parts

    module: Any = own_parts(data, {})[0]
    for site, loader in module.test_dataloader().items():
        table = predictions(finished, run).query(f"site == '{site}'")
        images, _ = next(iter(loader))
        batch, _ = module.on_after_batch_transfer((images, None), 0)
        assert probabilities(table)[: len(images)] == pytest.approx(model(batch).detach().numpy(), abs=1e-5)


def test_the_command_says_what_it_plans_does_and_found(finished: Path) -> None:
    said = (finished.parents[1] / "said.txt").read_text()
    assert "The plan: 14 runs, seeds 0, 1" in said
    assert said.count("done in ") == 14
    assert re.findall(r"\((\d+) of 14 runs; (?:about \d+ \w+ left|nearly done)\)", said) == [*map(str, range(1, 15))]
    assert "\x1b" not in said
    summary = pd.read_csv(finished / "summary.csv").query("metric == 'auroc'").set_index("label")
    for label, row in summary.iterrows():
        assert re.search(rf"{label} +2 +{row['mean']:.3f}", said)
    assert f"The report: {Path('studies/small/report.html')}" in said


def test_the_matrix_of_sites_is_there_after_every_cycle(finished: Path) -> None:
    [run, *_] = [row for row in results(finished)["run"] if row.startswith("cyclical_weight_transfer-every_01")]
    matrix = pd.read_csv(finished / "runs" / run / "fit" / "site_matrix.csv")
    assert list(matrix["visit"]) == [1, 1, 3, 3]
    assert list(matrix["site"]) == ["site-1", "site-2"] * 2


# -- again -------------------------------------------------------------------------------------------------------------


def stamps(study: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in study.glob("runs/*/result.json")}


def test_a_finished_study_is_only_written_up_again(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, table = stamps(study), (study / "results.csv").read_bytes()
    (study / "results.csv").unlink()
    (study / "report.html").unlink()
    main(["--config", str(study / "study.yaml"), "--output", str(study)])
    assert stamps(study) == before
    assert (study / "results.csv").read_bytes() == table
    assert (study / "report.html").exists()
    assert "done in" not in capsys.readouterr().out


def test_more_options_make_new_runs_beside_the_old_ones(tmp_path: Path) -> None:
    study, config = tmp_path / "more", written(Path("small.yaml"), heuristics=["central"])
    assert compare(config, output=study).returncode == 0
    before = stamps(study)
    refused = compare(config, output=study, heuristics="[single]")
    assert "heuristics lacks 'central'" in refused.stderr
    assert stamps(study) == before
    assert compare(config, output=study, seeds="[0,1]").returncode == 0
    assert len(stamps(study)) == len(results(study)) == 2
    assert before.items() <= stamps(study).items()


def test_without_matplotlib_nothing_is_trained_and_what_is_trained_gets_its_tables(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lit_dist.utils.extras.find_spec", lambda name: None)
    (study / "results.csv").unlink()
    report = (study / "report.html").stat().st_mtime_ns
    done = compare(study / "study.yaml", output=study)
    assert done.returncode == 1
    assert f"the tables are in {study}; the report that a study ends with needs the extra `report`" in done.stderr
    assert "AUROC" in done.stdout
    assert len(results(study)) == 2 * len(ROWS)
    assert (study / "report.html").stat().st_mtime_ns == report
    done = compare(written(Path("new.yaml")))
    assert done.stderr.startswith("lit-dist: the report that a study ends with needs")
    assert not Path("studies").exists()
    main(["--config", "new.yaml", "--print-commands"])


def test_a_failed_run_is_reported_and_the_rest_is_done(study: Path, tmp_path: Path) -> None:
    table = results(study).query("seed == 0").set_index("heuristic")["run"]
    broken, ensemble, cyclical = table["single"].iloc[0], table["ensemble"], table["cyclical_weight_transfer"].iloc[0]
    for run in (broken, ensemble, cyclical):
        shutil.rmtree(study / "runs" / run)
    (study / "runs" / broken).mkdir()
    (study / "runs" / broken / "fit").write_text("in the way")
    done = compare(study / "study.yaml", output=study)
    assert done.returncode == 1
    assert f"FAILED: {broken}: " in done.stdout
    assert f"FAILED: {ensemble}: it needs {broken}, which failed" in done.stdout.replace("\n", " ").replace("  ", " ")
    assert "2 of 14 runs failed" in done.stderr
    assert "Traceback" not in done.stderr
    assert cyclical in set(results(study)["run"])
    assert len(results(study)) == 12
    (study / "runs" / broken / "fit").unlink()
    assert compare(study / "study.yaml", output=study).returncode == 0
    assert len(results(study)) == 14


# -- killed ------------------------------------------------------------------------------------------------------------


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    own = [int(word) for word in children.read_text().split()] if children.exists() else []
    return own + [each for child in own for each in descendants(child)]


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_killed_study_resumes_and_equals_the_unbroken_one(finished: Path, tmp_path: Path) -> None:
    config = written(Path("small.yaml"), heuristics=["central", "cyclical_weight_transfer"])
    study = tmp_path / "killed"
    process = program.start(words(config, output=study, jobs=1), Path("said"))
    assert process.pid is not None
    until(lambda: len(stamps(study)) >= 1)
    until(lambda: any(not (path.parent / "result.json").exists() for path in study.glob("runs/*/progress")))
    others = descendants(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    until(lambda: not any(map(alive, others)))  # nobody works on without the one who would collect
    before = stamps(study)
    assert 1 <= len(before) < 3
    assert compare(config, output=study).returncode == 0
    after = stamps(study)
    assert {name: after[name] for name in before} == before
    left, right = (results(each).set_index("run").drop(columns="seconds") for each in (study, finished))
    assert len(left) == 3
    pd.testing.assert_frame_equal(left, right.loc[left.index], check_exact=True, check_dtype=False)  # empty columns


# -- by others ---------------------------------------------------------------------------------------------------------


def test_a_scheduler_may_do_the_runs_in_any_order(finished: Path, tmp_path: Path) -> None:
    study = tmp_path / "cluster"
    some = {"heuristics": ["central", "ensemble"], "every_n_epochs": [1]}
    done = program.run(*words(written(Path("small.yaml"), **some), output=study), "--print-commands")
    commands = [shlex.split(line) for line in done.stdout.splitlines() if line.startswith("lit-dist compare")]
    assert len(commands) == 4
    random.Random(0).shuffle(commands)
    commands.sort(key=lambda command: "ensemble" not in command[-1])  # the one that needs others first
    started = [program.run(*command[1:], timeout=300) for command in commands]
    assert [each.returncode for each in started] == [1, 0, 0, 0]
    assert "which are not finished" in started[0].stderr
    assert len(stamps(study)) == 3
    before = stamps(study)
    assert compare(study / "study.yaml", output=study).returncode == 0
    assert {name: stamps(study)[name] for name in before} == before
    mine, theirs = (results(each).set_index("run").drop(columns="seconds") for each in (study, finished))
    pd.testing.assert_frame_equal(mine, theirs.loc[mine.index], check_exact=True, check_dtype=False)  # empty columns


def test_two_machines_share_a_study(tmp_path: Path) -> None:
    study = tmp_path / "shared"
    config = written(Path("small.yaml"), heuristics=["single", "central"])
    said = [Path("one.txt"), Path("other.txt")]
    both = [program.start(words(config, output=study, jobs=1), path) for path in said]
    for process in both:
        process.join(300)
    assert [process.exitcode for process in both] == [0, 0]
    done = [set(re.findall(r"done in \d+ s: (\S+)", path.read_text())) for path in said]
    assert all(done)  # each did some
    assert done[0].isdisjoint(done[1])
    assert len(done[0] | done[1]) == 3


def test_a_run_that_another_has_just_finished_is_not_called_done_here(study: Path) -> None:
    from lit_dist.study.execute import execute

    name = results(study)["run"][0]
    assert execute(study, name) is False


# -- tracked -----------------------------------------------------------------------------------------------------------


def test_a_tracked_study_is_a_group_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    study = tmp_path / "tracked"
    wandb = {"project": "lit_dist", "offline": True}
    config = written(Path("small.yaml"), heuristics=["cyclical_weight_transfer"], wandb=wandb)
    assert program.run(*words(config, output=study), timeout=300).returncode == 0
    paths = sorted(study.glob("runs/*/wandb/offline-run-*/*.wandb"))
    assert len(paths) == 2
    headers = [
        next(record.run for record in wandb_reader.records(path) if record.WhichOneof("record_type") == "run")
        for path in paths
    ]
    assert {header.run_group for header in headers} == {"small"}
    assert [header.display_name for header in headers] == [path.parents[2].name for path in paths]
    assert len({header.run_id for header in headers}) == 2
    for path in paths:
        settings = wandb_reader.config(path)
        assert settings["heuristic"] == "cyclical_weight_transfer"
        assert settings["backbone"] == "slim_resnet18"
        summary = wandb_reader.summary(path)
        result = json.loads((path.parents[2] / "result.json").read_text())
        assert summary["accuracy"] == pytest.approx(result["accuracy"])
        assert summary["transfers"] == result["transfers"]


# -- what is wrong -----------------------------------------------------------------------------------------------------


def test_wrong_settings_end_before_anything_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = written(Path("small.yaml"), passes=3, every_n_epochs=[2])
    with pytest.raises(SystemExit):
        command(["compare", "--config", str(config), "--output", str(tmp_path / "none")])
    assert "lit-dist: visits of 2 epochs do not divide passes=3" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_run_that_was_not_planned_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command(["compare", "--output", "nowhere", "--run", "central"])
    assert "nowhere/runs/central has no plan of a run" in capsys.readouterr().err


# -- the page ----------------------------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OF_CLASSES = [name for name in FIGURES if not name.startswith("residuals")]  # those are of a task of values
_ASK = """<script>addEventListener("load", () => {
  const answer = document.createElement("pre");
  answer.id = "answer";
  answer.textContent = JSON.stringify({
    images: [...document.images].map((image) => [image.alt, image.naturalWidth, image.complete]),
    tables: [...document.querySelectorAll("table")].map(
      (table) => [...table.rows].map((row) => [...row.cells].map((cell) => cell.innerText))),
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  });
  document.body.append(answer);
});</script></html>"""


def chromium(page: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    always = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={page.parent / 'profile'}"]
    return subprocess.run([CHROMIUM, *always, *flags, page.as_uri()], capture_output=True, text=True, timeout=120)


def in_browser(page: Path, width: int, dark: bool) -> Any:
    asking = page.with_name("asking.html")
    asking.write_text(page.read_text().replace("</html>", _ASK))
    flags = [f"--window-size={width},1000", "--virtual-time-budget=5000", "--dump-dom"]
    done = chromium(asking, *flags, *(["--force-dark-mode"] if dark else []))
    found = re.search(r'<pre id="answer">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr
    return json.loads(found[1].replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (500, True)])
def test_a_browser_draws_the_report(width: int, dark: bool, study: Path) -> None:
    answer = in_browser(study / "report.html", width, dark)
    titles = [image[0] for image in answer["images"]]
    assert len(titles) == len(set(titles)) == len(OF_CLASSES)
    assert all(complete and natural > 100 for _, natural, complete in answer["images"])
    assert answer["overflow"] <= 0  # wide tables scroll by themselves
    summary = pd.read_csv(study / "summary.csv").pivot(index="label", columns="metric", values="mean")
    for (heading, *rows), metric in zip(answer["tables"], ("AUROC", "accuracy"), strict=False):
        assert [row[0] for row in rows] == list(pd.read_csv(study / "summary.csv")["label"].unique())
        for row in rows:
            shown = dict(zip(heading, row, strict=True))
            assert shown[metric] == f"{summary.loc[row[0], metric.lower()]:.3f}"


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
def test_what_is_folded_is_printed_too(study: Path) -> None:
    def sheets(text: str) -> int:
        page = study / "printed.html"
        page.write_text(text)
        done = chromium(page, f"--print-to-pdf={study / 'printed.pdf'}")
        assert done.returncode == 0, done.stderr
        return len(re.findall(rb"/Type /Page\b", (study / "printed.pdf").read_bytes()))

    text = (study / "report.html").read_text()
    unfolded = sheets(text.replace("<details>", "<details open>"))
    assert sheets(text) == unfolded > sheets(re.sub(r"<details>.*?</details>", "", text, flags=re.DOTALL))


def test_the_report_needs_nothing_else(study: Path) -> None:
    page = (study / "report.html").read_text()
    assert not re.findall(r'(?:src|srcset|href)="(?!data:|#)', page)
    assert "@import" not in page
    config = yaml.safe_load((study / "study.yaml").read_text())
    assert config["passes"] == SMALL["passes"]
    assert f"--output {os.path.relpath(study)}" in page or "--output studies/small" in page
    for name in OF_CLASSES:
        for width in ("", "_one_column"):
            for suffix in ("png", "svg", "pdf"):
                assert (study / "figures" / f"{name}{width}.{suffix}").stat().st_size > 1000


def test_a_paper_takes_the_methods_and_the_tables(finished: Path) -> None:
    said = (finished / "methods.txt").read_text()
    environment = json.loads(next(finished.glob("runs/central*0-*/environment.json")).read_text())
    assert f"on {environment['processor']} ({environment['system']}), in precision 32-true" in said
    assert "It has 80 records, each of another patient, at 2 sites (site-1 40, site-2 40); " in said
    assert ", 12 for the test." in said
    assert said.split("\n")[0].removeprefix("Data. ")[:60] in (finished / "report.html").read_text()
    assert sorted(path.name for path in (finished / "tables").iterdir()) == [
        *("pairs.tex", "sites.tex", "summary.tex", "summary_accuracy.tex")
    ]
    assert "cyclical, every 2 epochs & 2 & " in (finished / "tables/summary.tex").read_text()


def test_the_report_is_opened_if_asked_for(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    monkeypatch.setattr("lit_dist.cli.compare.open_page", opened.append)
    arguments = ["--config", str(study / "study.yaml"), "--output", str(study)]
    main(arguments)
    assert opened == []
    before = (study / "study.yaml").read_bytes()
    main([*arguments, "--open"])
    assert opened == [study / "report.html"]
    assert (study / "study.yaml").read_bytes() == before


# -- where the models look ---------------------------------------------------------------------------------------------


def test_images_are_in_the_report_where_they_are_asked_for_and_in_that_one_alone(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, before = ["--config", str(study / "study.yaml"), "--output", str(study)], files(study)
    main([*arguments, "--saliency", "1"])
    page = (study / "report.html").read_text()
    shown = re.search(r'<h2 id="where-the-models-look">.*?(?=<h2)', page, re.DOTALL)
    assert shown
    assert re.findall("<h3>(.*?)</h3>", shown[0]) == ["central, seed 0", f"{best_transfer(study)}, seed 0"]
    assert page.count("data:image/jpeg") == shown[0].count("<figure>") * 2 == 8
    assert "the page shows patients" in shown[0]
    text = re.sub('base64,[^"]*', "", shown[0])
    names = predictions(study, next((study / "runs").glob("central*")).name)
    assert not [name for name in [*names["image"], *names["patient"]] if str(name) in text]
    assert "It shows 4 images of records" in capsys.readouterr().out
    assert pd.read_csv(study / "checklists.csv").query("number == '31'")["place"].iloc[0] == "Where the models look"
    main(arguments)
    assert "data:image/jpeg" not in (study / "report.html").read_text()
    assert files(study) == before


def files(study: Path) -> dict[str, bytes]:
    """What the study is, and what its runs have left."""
    return {str(path): path.read_bytes() for path in [study / "study.yaml", *study.glob("runs/*/*.*")]}


def best_transfer(study: Path) -> str:
    summary = pd.read_csv(study / "summary.csv").query("metric == 'auroc'").set_index("label")["mean"]
    return str(summary[["single transfer", "cyclical, every epoch", "cyclical, every 2 epochs"]].idxmax())


def test_no_map_is_shown_of_a_model_that_is_not_the_one_that_was_tested(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = results(study)
    changed, lost = (study / "runs" / name / "fit" for name in table.query("seed == 0")["run"].iloc[[0, 4]])
    saved = pd.read_csv(changed / "predictions.csv")
    saved[["probability_0", "probability_1"]] = probabilities(saved) / 2 + np.array([0.5, 0])
    saved.to_csv(changed / "predictions.csv", index=False)
    (lost / "checkpoints/best.ckpt").unlink()
    summary = pd.DataFrame({"label": ["central", "single transfer"], "metric": "auroc", "mean": 0.5})
    rows = table[table["kind"].isin(["central", "single_weight_transfer"])]
    task = Classification(["healthy", "referable"])
    tables = Tables(study, rows, rows, summary, rows, rows, task)
    of_changed, of_lost = where_models_look(tables, 2)
    assert "does not repeat its saved predictions" in of_changed.said
    assert not [*of_changed.cases, *of_lost.cases]
    assert "could not be read here" in of_lost.said
    assert str(lost / "checkpoints") in capsys.readouterr().out
    assert str(study) not in of_changed.said + of_lost.said


def test_a_number_of_images_that_makes_no_sense_is_refused_before_anything_is_planned(tmp_path: Path) -> None:
    for number in ("-1", "1000", "many"):
        done = compare(written(Path("new.yaml")), output=tmp_path / "new", saliency=number)
        assert done.returncode == 1
        assert "saliency" in done.stderr
    assert not (tmp_path / "new").exists()

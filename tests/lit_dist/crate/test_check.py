"""What a packed study says of its plan, visits, splits and records, beside what follows from its other files."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from lying_crate import (
    chained,
    edit_json,
    hashed,
    replaced,
    set_cell,
    visits,
    with_entry,
    with_json,
    with_lines,
    with_table,
)

from lit_dist.cli.main import main
from lit_dist.crate.check import check_crate
from lit_dist.crate.pack import pack
from lit_dist.provenance.entry import Outcome
from lit_dist.provenance.ledger import AnyLine, iter_lines
from lit_dist.provenance.merge import Merge
from lit_dist.utils.errors import InputError
from small_study import written

AVERAGING = {"class_path": "FederatedAveraging", "init_args": {"every_n_epochs": 1}}


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    heuristics = [
        "central",
        "single_weight_transfer",
        "cyclical_weight_transfer",
        {"name": "mean", "callbacks": [AVERAGING]},
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        given = written(Path("given.yaml"), passes=1, every_n_epochs=[1], heuristics=heuristics)
        main(["compare", "--config", str(given), "--output", "study"])
    return pack(folder / "study", folder / "packed")


@pytest.fixture
def crate(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "crate"))


def test_an_honest_study_is_in_order(packed: Path) -> None:
    said = "\n".join(check_crate(packed))
    assert "plans 4 runs, and all of them are here" in said
    assert "They give table_1.csv and flow.csv" in said


def test_runs_that_were_left_out_are_named(crate: Path) -> None:
    replaced("study.yaml", "seeds:\n- 0\n", "seeds:\n- 0\n- 1\n")(crate)
    hashed(crate)
    [said] = [line for line in check_crate(crate) if line.startswith("study.yaml plans")]
    assert "plans 8 runs; missing here: central-seed_1-" in said
    assert said.count("seed_1") == 4


def test_a_crate_of_another_version_is_told_before_its_tables_are_compared(crate: Path) -> None:
    with_table("summary.csv", set_cell(0, "mean", 0.123))(crate)
    hashed(crate)
    replaced("ro-crate-metadata.json", f'"softwareVersion": "{version("lit_dist")}"', '"softwareVersion": "0.1.9"')(
        crate
    )
    said: list[str] = []
    with pytest.raises(InputError, match=r"summary.csv, row 1: mean is 0.123"):
        said.extend(check_crate(crate))
    assert f"It was made by lit_dist 0.1.9; this is {version('lit_dist')}, which may compute tables otherwise." in said


CYCLICAL, MEAN, SINGLE, CENTRAL = "runs/cyc*/", "runs/mean*/", "runs/single*/", "runs/central*/"


def other_way_round(lines: list[AnyLine]) -> list[AnyLine]:
    sites = [line.site for line in visits(lines)][::-1]
    return [replace(line, site=site) for line, site in zip(visits(lines), sites, strict=True)]


def one_more(lines: list[AnyLine]) -> list[AnyLine]:
    last = visits(lines)[-1]
    return [*lines, replace(last, visit=2, cycle=1, site="site-1", sha256_in=last.sha256_out)]


def without_merges(lines: list[AnyLine]) -> list[AnyLine]:
    return [line for line in lines if not isinstance(line, Merge)]


def weighed_equally(lines: list[AnyLine]) -> list[AnyLine]:
    return [
        replace(line, weighting="equal", weights=[1.0] * len(line.weights)) if isinstance(line, Merge) else line
        for line in lines
    ]


def two_lines(lines: list[AnyLine]) -> list[AnyLine]:
    first, *rest = visits(lines)
    half = replace(first, outcome="cut short", images=1, steps=0, sha256_out="a" * 64)
    return [half, replace(first, images=2, steps=1, sha256_in="a" * 64), *rest]


def passed(outcome: Outcome) -> Callable[[list[AnyLine]], list[AnyLine]]:
    def change(lines: list[AnyLine]) -> list[AnyLine]:
        first, second = visits(lines)
        return [
            replace(first, outcome=outcome, steps=0, sha256_out=first.sha256_in),
            replace(second, sha256_in=first.sha256_in),
        ]

    return change


def of_the_same_fit(crate: Path) -> None:
    [other] = crate.glob(MEAN + LEDGER)
    run = next(iter_lines(other)).run
    chained(crate, CYCLICAL + LEDGER, lambda lines: [replace(line, run=run) for line in lines])


def no_ledger(crate: Path) -> None:
    next(crate.glob(f"{CYCLICAL}fit/ledger.jsonl")).unlink()
    edit_json(crate, f"{CYCLICAL}result.json", visits=None, transfers=0, bytes_sent=0)


def moved(split: str, to: str) -> Callable[[pd.DataFrame], None]:
    def change(table: pd.DataFrame) -> None:
        table.loc[table.index[table["split"] == split][0], "split"] = to

    return change


def another_patient(table: pd.DataFrame) -> None:
    table.loc[0, "patient"] = table.loc[1, "patient"]


def without_one(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(index=0)


LEDGER, SPLITS, VALIDATION = "fit/ledger.jsonl", "fit/splits.csv", "fit/validation_predictions.csv"
LIES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "more images": (with_entry(CYCLICAL + LEDGER, 1, images=99), r"ledger.jsonl, line 2 .* has 99 images in"),
    "fewer steps": (with_entry(CYCLICAL + LEDGER, 0, steps=1), r"line 1 .* in 1 steps, but .* give \d+ in \d+"),
    "half a pass": (with_entry(SINGLE + LEDGER, 0, images=5), r"single_weight.*line 1 .* has 5 images"),
    "another order": (
        with_lines(CYCLICAL + LEDGER, other_way_round),
        "line 1 .* visit 0 is of cycle 0 and at 'site-1'",
    ),
    "a visit more": (with_lines(CYCLICAL + LEDGER, one_more), "line 3 .* give 2 visits"),
    "a visit less": (
        with_lines(CYCLICAL + LEDGER, lambda lines: lines[:1]),
        "ends with visit 0 at 'site-1', but .* give 2 visits",
    ),
    "no merge": (with_lines(MEAN + LEDGER, without_merges), "ends with visit 1 .* a merge comes after it"),
    "equal weights": (with_lines(MEAN + LEDGER, weighed_equally), "the merge that ends cycle 0.* no merge by equal"),
    "no ledger": (no_ledger, "is not there, and the run's settings make a model travel"),
    "a visit in two lines": (
        with_lines(CYCLICAL + LEDGER, two_lines),
        "line 1 .* was cut short, as it cannot have been",
    ),
    "a visit skipped": (with_lines(CYCLICAL + LEDGER, passed("skipped")), "line 1 .* was skipped, as it cannot"),
    "a site absent": (with_lines(CYCLICAL + LEDGER, passed("absent")), "line 1 .* was absent, as it cannot"),
    "one fit of two runs": (of_the_same_fit, "which the ledger of cyclical_weight_transfer.*has, too"),
    "steps of a result": (
        with_json(f"{CYCLICAL}result.json", steps=7),
        "ledger.jsonl has .* steps .* and the result of the run 7",
    ),
    "steps without visits": (with_json(f"{CENTRAL}result.json", steps=7), "central.* has a result of 7 steps"),
    "a plan's words": (
        with_json(f"{CYCLICAL}plan.json", order="shuffled"),
        "plan.json: order is 'shuffled', and .* 'fixed'",
    ),
    "the study's settings": (
        replaced("study.yaml", "dropout: 0.0", "dropout: 0.1"),
        "plan.json is of no run that .*study.yaml plans",
    ),
    "the study's heuristics": (replaced("study.yaml", "- central\n", ""), "central.*plan.json is of no run"),
    "another split in a run": (
        with_table(CYCLICAL + SPLITS, moved("train", "val")),
        r"splits.csv, row \d+: .* is not in",
    ),
    "a record less in a run": (with_table(CYCLICAL + SPLITS, without_one), "splits.csv"),
    "another split in all": (
        with_table(f"runs/*/{SPLITS}", moved("train", "val")),
        "table_1.csv, row 1: train_records",
    ),
    "a count in Table 1": (
        with_table("table_1.csv", set_cell(1, "train_records", 29)),
        "table_1.csv, row 2: train_records is 29",
    ),
    "classes in Table 1": (with_table("table_1.csv", set_cell(2, "healthy", 41)), "table_1.csv, row 3: healthy is 41"),
    "a column in Table 1": (
        with_table("table_1.csv", lambda table: table.assign(cured=1)),
        "table_1.csv has the column cured",
    ),
    "a sex in Table 1": (
        with_table("table_1.csv", lambda table: table.assign(sex_F=[1, 1, 3])),
        "table_1.csv, row 3: sex_F is 3",
    ),
    "people in Table 1": (
        with_table("table_1.csv", lambda table: table.assign(sex_F=[99, 1, 100])),
        "row 1: it has 99 people of a sex",
    ),
    "no Table 1": (lambda crate: (crate / "table_1.csv").unlink(), "table_1.csv is missing"),
    "a site in Table 1": (with_table("table_1.csv", without_one), "table_1.csv does not have a row of each site"),
    "a count in the flow": (with_table("flow.csv", set_cell(2, "records", 1)), "flow.csv, row 3: records is 1, and"),
    "found in the flow": (with_table("flow.csv", set_cell(0, "records", 999)), "flow.csv, row 1: records is 999"),
    "less than nothing left out": (
        with_table(
            "flow.csv", lambda table: pd.concat([table, pd.DataFrame([{"step": "left out: x", "records": -1}])])
        ),
        "flow.csv, row 6: 'left out: x' has no number",
    ),
    "a validation record": (
        with_table(CYCLICAL + VALIDATION, without_one),
        "validation_predictions.csv .* which is not there",
    ),
    "another patient": (
        with_table(f"{CYCLICAL}fit/predictions.csv", another_patient),
        "predictions.csv .* another patient or label",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_liar_who_mends_the_hashes_is_found_out(crate: Path, lie: str) -> None:
    change, message = LIES[lie]
    change(crate)
    hashed(crate)
    with pytest.raises(InputError, match=message):
        list(check_crate(crate))

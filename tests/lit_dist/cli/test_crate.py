"""``lit-dist crate`` and ``verify``: a small study is packed, and what was packed is tampered with."""

import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lying_crate import edit, edit_table, hashed, replaced, with_table
from rocrate.rocrate import ROCrate

from lit_dist.cli.main import main
from lit_dist.crate.check import check_crate
from lit_dist.crate.files import METADATA
from lit_dist.crate.pack import pack
from lit_dist.report.shown_maps import Case, Maps, maps_section
from lit_dist.study.run_names import _hash
from lit_dist.utils.errors import InputError
from small_study import written

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crate")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        given = written(
            Path("given.yaml"), passes=1, every_n_epochs=[1], heuristics=["ensemble", "cyclical_weight_transfer"]
        )
        main(["compare", "--config", str(given), "--output", "study"])
    return folder / "study"


@pytest.fixture(scope="module")
def packed(study: Path) -> Path:
    return pack(study, study.with_name("packed"), author="A. Author", licence="CC-BY-4.0")


@pytest.fixture
def crate(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "crate"))


def test_a_packed_study_is_in_order_as_a_folder_and_as_one_file(
    study: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    made = tmp_path / "study.zip"
    main(["crate", str(study), "--output", str(made)])
    main(["verify", str(made)])
    said = capsys.readouterr().out
    for line in ("files are as they were packed", "1 ledgers: 2 visits", "80 records of 80 patients", "over_sites.csv"):
        assert line in said


def test_it_has_neither_names_of_records_nor_weights_nor_logs(study: Path, packed: Path) -> None:
    names = pd.concat(pd.read_csv(path) for path in study.glob("runs/*/fit/splits.csv"))
    files = [path for path in packed.rglob("*") if path.is_file()]
    text = b"".join(path.read_bytes() for path in files)
    assert not any(name.encode() in text for name in {*names["image"], *names["patient"]})
    assert {path.suffix for path in files} <= {
        ".csv",
        ".html",
        ".json",
        ".jsonl",
        ".pdf",
        ".png",
        ".svg",
        ".tex",
        ".txt",
        ".yaml",
        ".md",
    }
    assert {"environment.json", "predictions.csv", "validation_predictions.csv"} <= {path.name for path in files}
    assert not any(path.name == "log.txt" for path in files)


def test_its_metadata_are_those_of_a_process_run_crate(packed: Path) -> None:
    crate = ROCrate(packed)
    action = crate.get("#compare")
    assert crate.license == "CC-BY-4.0"
    assert crate.creator["name"] == "A. Author"
    assert crate.root_dataset["conformsTo"].id.startswith("https://w3id.org/ro/wfrun/process/")
    assert (action.type, action["instrument"]["name"], action["object"][0].id) == (
        "CreateAction",
        "lit_dist",
        "study.yaml",
    )
    assert {"results.csv", "report.html"} <= {each.id for each in action["result"]}


def surely_right(table: pd.DataFrame) -> None:
    table["probability_1"] = table["label"] * 0.9 + 0.05
    table["probability_0"] = 1 - table["probability_1"]


def a_higher_value(table: pd.DataFrame) -> None:
    table.loc[0, "mean"] += 0.01


def in_two_splits(table: pd.DataFrame) -> None:
    table.loc[table["split"] == "train", "patient"] = table.loc[table["split"] == "test", "patient"].iloc[0]


def without_one(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(index=0)


def first_line(text: str) -> str:
    return text.splitlines()[0] + "\n"


LEDGER, PLAN, RUN = "runs/cyc*/fit/ledger.jsonl", "runs/cyc*/plan.json", "runs/cyc*/fit"
LIES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "predictions": (with_table(f"{RUN}/predictions.csv", surely_right), "but the result of the run"),
    "fewer records": (with_table(f"{RUN}/predictions.csv", without_one), "which is not there"),
    "a mean": (with_table("summary.csv", a_higher_value), "summary.csv, row 1: mean is"),
    "no pairs": (with_table("pairs.csv", without_one), "pairs.csv has"),
    "a run left out": (with_table("results.csv", without_one), "do not have the same runs"),
    "splits": (with_table(f"{RUN}/splits.csv", in_two_splits), "splits.csv: patient .* is in more than one site"),
    "a visit": (replaced(LEDGER, '"site-2"', '"site-1"'), "ledger.jsonl, line"),
    "fewer visits": (lambda crate: edit(crate, LEDGER, first_line), "the result of the run says otherwise"),
    "no ledger": (lambda crate: next(crate.glob(LEDGER)).unlink(), "has no ledger of the 2 visits"),
    "settings": (replaced(PLAN, '"width": 4', '"width": 8'), "not those that the run was named for"),
    "members": (replaced("runs/ens*/plan.json", '"single-', '"../single-'), "not in the crate"),
    "no task": (lambda crate: (crate / "task.json").write_text('{"task": 3}'), "describes no task"),
    "task taken away": (lambda crate: (crate / "task.json").unlink(), "there is no .*task.json"),
    "another task": (lambda crate: (crate / "task.json").write_text('{"task": "survival"}'), "has the column healthy"),
    "odd people": (with_table("table_1.csv", lambda table: table.assign(sex_F="x")), "is not a study as"),
    "a column more": (with_table("results.csv", lambda table: table.assign(auroc_external=0.99)), "auroc_external"),
    "points without their records": (
        lambda crate: [path.unlink() for path in crate.glob("runs/*/fit/validation_predictions.csv")],
        "operating_points.csv cannot be computed again",
    ),
    "odd values": (replaced(PLAN, '"heuristic": "', '"heuristic": 3, "more": "'), "has no plan of a run"),
    "no table": (lambda crate: (crate / "results.csv").write_text(""), "no table"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_liar_who_mends_the_hashes_is_found_out(crate: Path, lie: str) -> None:
    change, message = LIES[lie]
    change(crate)
    with pytest.raises(InputError, match=r"not the file that was packed|which its metadata name"):
        list(check_crate(crate))
    hashed(crate)
    with pytest.raises(InputError, match=message):
        list(check_crate(crate))


def test_files_that_were_added_and_links_are_refused(crate: Path) -> None:
    (crate / "more.csv").write_text("a\n")
    with pytest.raises(InputError, match="it was added"):
        list(check_crate(crate))
    (crate / "more.csv").unlink()
    os.replace(crate / "results.csv", crate.with_name("away"))
    (crate / "results.csv").symlink_to(crate.with_name("away"))
    with pytest.raises(InputError, match="is a link"):
        list(check_crate(crate))


def test_no_class_that_a_crate_names_is_imported(crate: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "evil_module.py").write_text("open('touched', 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    [folder] = crate.glob("runs/cyc*")
    plan = json.loads((folder / "plan.json").read_text())
    plan["config"]["data"]["class_path"] = "evil_module.Evil"
    plan["config"]["trainer"]["callbacks"].append({"class_path": "evil_module.Evil", "init_args": {}})
    settings = {**plan["config"], "seed": plan["config"]["seed_everything"]}
    del settings["seed_everything"]
    plan["name"] = f"{folder.name.rpartition('-')[0]}-{_hash(settings)}"
    (folder / "plan.json").write_text(json.dumps(plan))
    edit(
        crate,
        "study.yaml",
        lambda text: re.sub(r"class_path: lit_dist\.datamodules\.\S+", "class_path: evil_module.Evil", text),
    )
    for path in crate.glob("*.csv"):
        path.write_text(path.read_text().replace(folder.name, plan["name"]))
    folder.rename(folder.with_name(plan["name"]))
    hashed(crate)
    assert "files are as they were packed" in "".join(check_crate(crate))
    assert not Path("touched").exists()


@pytest.mark.parametrize(
    ("name", "mode", "message"),
    [("../outside", 0, "no place within it"), ("/outside", 0, "no place within it"), ("link", 0o120777, "is a link"),
     ("fine.txt", 0, f"has no {METADATA}")],
)  # fmt: skip
def test_a_zip_file_writes_nothing_outside(tmp_path: Path, name: str, mode: int, message: str) -> None:
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, "text")
    with pytest.raises(InputError, match=message):
        list(check_crate(path))
    assert [each.name for each in tmp_path.iterdir()] == ["bad.zip"]


def test_a_damaged_zip_file_and_one_too_large_for_the_disk(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pack(study, tmp_path / "study.zip")
    whole = path.read_bytes()
    path.write_bytes(whole[:2000] + b"x" * 2000 + whole[4000:])
    with pytest.raises(InputError, match="ask for it again"):
        list(check_crate(path))
    path.write_bytes(whole)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 8, 1))
    with pytest.raises(InputError, match="half of what this disk has free"):
        list(check_crate(path))


def a_link(study: Path) -> None:
    (study / "methods.txt").unlink()
    (study / "methods.txt").symlink_to("/etc/passwd")


def a_linked_folder(study: Path) -> None:
    shutil.rmtree(study / "tables")
    (study / "tables").symlink_to("/etc")
    (study / "tables" / "x.tex").exists()
    shutil.move(study / "figures", study.with_name("figures"))
    (study / "figures").symlink_to(study.with_name("figures"))


def a_pipe(study: Path) -> None:
    (study / "checklists.csv").unlink()
    os.mkfifo(study / "checklists.csv")


def a_record_less(study: Path) -> None:
    edit_table(study, "runs/cyc*/fit/predictions.csv", without_one)


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "link": (a_link, "methods.txt is a link"),
    "linked folder": (a_linked_folder, "is a link, or lies behind one"),
    "pipe": (a_pipe, "checklists.csv is a pipe"),
    "record": (a_record_less, "study is not whole: .*which is not there"),
    "no run": (lambda study: shutil.rmtree(next(study.glob("runs/cyc*"))), "study is not whole"),
    "no table": (
        lambda study: (study / "results.csv").write_bytes(b"\xff\xfe,\n"),
        "results.csv cannot be read as a table",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_study_that_is_not_whole_is_not_packed(study: Path, tmp_path: Path, kind: str) -> None:
    copy = Path(shutil.copytree(study, tmp_path / "study"))
    change, message = BROKEN[kind]
    change(copy)
    with pytest.raises(InputError, match=message):
        pack(copy, tmp_path / "crate.zip")
    assert not [path for path in tmp_path.iterdir() if "crate" in path.name]


def test_what_lit_dist_has_not_written_stays_where_it_is(study: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(study, tmp_path / "study"))
    others = (
        "notes.txt",
        "patients.csv",
        "runs/mine/plan.json",
        f"{next(copy.glob('runs/*')).relative_to(copy)}/fit/p.csv",
    )
    for name in others:
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text("name\nA. Patient\n")
    crate = pack(copy, tmp_path / "crate")
    assert not any((crate / name).exists() for name in others)


def test_a_file_beside_the_folder_in_a_zip_file_was_added(packed: Path, tmp_path: Path) -> None:
    path = Path(shutil.make_archive(str(tmp_path / "study"), "zip", packed.parent, packed.name))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("README", "mine")
    with pytest.raises(InputError, match="'README' beside the folder"):
        list(check_crate(path))


def test_what_cannot_be_packed_is_named(study: Path, packed: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no finished study"):
        pack(tmp_path, tmp_path / "crate")
    shutil.copytree(study, tmp_path / "old").joinpath("task.json").unlink()
    with pytest.raises(InputError, match="give its command again"):
        pack(tmp_path / "old", tmp_path / "crate")
    with pytest.raises(InputError, match="is there already"):
        pack(study, packed)
    with pytest.raises(SystemExit):
        main(["verify", str(packed), "--replay", "0"])


def test_a_report_with_images_of_records_is_packed_with_a_word_on_them(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(study, tmp_path / "study")
    words = ["crate", str(tmp_path / "study"), "--output", str(tmp_path / "packed")]
    with (tmp_path / "study/report.html").open("a") as page:
        page.write(maps_section([Maps("central", "seed 0", "Of a layer.", [CASE])]))
    main(words)
    assert "shows images of patients" in capsys.readouterr().out
    assert "but for those images of records" in (tmp_path / "packed" / METADATA).read_text()


CASE = Case("a", "well", "well", 0.9, True, np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.float32))

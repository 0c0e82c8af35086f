"""Reporting checklists say what a report has, where, and leave the rest blank."""

import re
from pathlib import Path

import pandas as pd
import pytest

from lit_dist.report.checklists import filled, plain, section
from lit_dist.utils.errors import InputError

PAGE = """<h2 id="test-auroc"><a href="#test-auroc">Test AUROC, all sites' records</a></h2>
<h2 id="over-sites"><a href="#over-sites">Over sites: test AUROC</a></h2>
<h2 id="methods"><a href="#methods">Methods</a></h2>
<figure id="confusion"><h3><a href="#confusion">What is taken for what</a></h3>"""

NONE = Path("none.csv")


def places(page: str, kinds: set[str], elsewhere: bool) -> dict[str, str]:
    items = plain(filled(page, kinds, elsewhere, NONE))
    return dict(zip(items["checklist"] + " " + items["number"], items["place"], strict=True))


def test_an_item_has_the_place_where_the_report_tells_of_it() -> None:
    found = places(PAGE, {"central"}, elsewhere=False)
    assert found["CLAIM 37"] == "Test AUROC, Over sites"
    assert found["CLAIM 25"] == "Methods: Training, Methods: Heuristics"
    assert found["CLAIM 39"] == "Figures: What is taken for what"


def test_what_the_study_did_not_do_is_blank() -> None:
    found = places(PAGE, {"central"}, elsewhere=False)
    blank = {"CLAIM 27", "CLAIM 33", "CLAIM 35", "CLAIM 38", "CLAIM 44", "TRIPOD+AI 17"}  # no ensemble, no table 1, ...
    assert {found[item] for item in blank} == {""}
    assert places(PAGE, {"ensemble"}, elsewhere=False)["CLAIM 27"] == "Methods: Heuristics"
    elsewhere = places(PAGE, {"central"}, elsewhere=True)
    assert (elsewhere["CLAIM 32"], elsewhere["CLAIM 33"]) == ("", "Over sites")
    assert not any(places("<p></p>", {"ensemble"}, elsewhere=True).values())


@pytest.mark.parametrize(("checklist", "count"), [("CLAIM", 44), ("TRIPOD+AI", 52)])
def test_every_item_of_the_checklists_stands_there_once(checklist: str, count: int) -> None:
    items = filled(PAGE, [], elsewhere=False, earlier=NONE).query("checklist == @checklist")
    assert items["number"].is_unique
    assert len(items) == count
    assert items[["part", "item"]].ne("").all(axis=None)
    assert list(items["number"].str.extract(r"(\d+)", expand=False).astype(int)) == sorted(
        items["number"].str.extract(r"(\d+)", expand=False).astype(int)
    )


def test_the_section_counts_and_leaves_boxes_for_what_is_to_be_written() -> None:
    items = filled(PAGE, [], elsewhere=False, earlier=NONE)
    html = section(items)
    unfinished = (items["place"] == "") | (items["add"] != "")
    assert html.count("contenteditable") == unfinished.sum()
    here, part, left = map(int, re.findall(r"\d+", html.split("CLAIM")[1].split("</summary>")[0])[1:])
    assert here + part + left == 44
    assert (here, part) == (
        (items.query("checklist == 'CLAIM'").place.ne("") & items["add"].eq("")).sum(),
        (items.query("checklist == 'CLAIM'").place.ne("") & items["add"].ne("")).sum(),
    )
    assert set(re.findall(r'href="#([\w-]+)"', html)) <= set(re.findall(r'id="([\w-]+)"', PAGE))


def test_the_file_for_the_authors_has_no_html_and_a_column_to_write_in() -> None:
    items = plain(filled(PAGE, [], elsewhere=False, earlier=NONE))
    assert list(items) == ["checklist", "number", "part", "item", "add", "place", "written"]
    assert not items.apply(lambda column: column.str.contains("<", regex=False)).any(axis=None)
    assert isinstance(items, pd.DataFrame)


def test_what_the_authors_have_written_is_kept_and_shown(tmp_path: Path) -> None:
    path = tmp_path / "checklists.csv"
    before = plain(filled(PAGE, [], False, path))
    before.loc[before["number"] == "17", "written"] = "Approved by <the board>, NA."
    before.to_csv(path, index=False)
    again = filled(PAGE, [], False, path)
    assert list(again["written"]) == list(before["written"])
    assert section(again).count("Approved by &lt;the board&gt;, NA.") == 2
    before.to_csv(path, index=False, sep=";", encoding="utf-8-sig")
    assert list(filled(PAGE, [], False, path)["written"]) == list(before["written"]), "as a spreadsheet saves it"
    path.write_bytes("checklist,number,written\nCLAIM,1,Ä\n".encode("latin-1"))
    with pytest.raises(InputError, match="not in UTF-8"):
        filled(PAGE, [], False, path)
    path.write_text("mine\n1\n")
    with pytest.raises(InputError, match="would be lost: mend it"):
        filled(PAGE, [], False, path)

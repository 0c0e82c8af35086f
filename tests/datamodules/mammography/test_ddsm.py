from pathlib import Path

from fake_mammograms import draw_film, write_ddsm, write_png
from lit_dist.datamodules.mammography.ddsm import parse_name, read_ddsm
from real_data import real_folder


def test_all_real_names_are_read() -> None:
    """10,420 names of 10,348 films: 18 cases stand in two volumes."""
    folder = real_folder("mammo_ddsm66") / "ddsm_image_lists"
    names = {line for path in folder.glob("*.txt") for line in path.read_text().split()}
    rows = [parse_name(name) for name in names]
    assert len(rows) == 10_420
    assert None not in rows
    assert len({row["image"] for row in rows if row}) == 10_348
    count = {(kind, site): 0 for kind in ("normal", "benign", "malignant") for site in "ABCD"}
    for row in rows:
        assert row is not None
        count[row["diagnosis"], row["site"]] += 1
    assert [count["normal", site] for site in "ABCD"] == [2032, 328, 0, 420]
    assert [count["malignant", site] for site in "ABCD"] == [1680, 636, 936, 404]
    assert [count["benign", site] for site in "ABCD"] == [1764, 544 + 372, 728 + 192, 384]


def test_a_name_in_folders_and_in_one_piece() -> None:
    expected = {"image": "A_1141_1.LEFT_CC", "patient": "A_1141", "site": "A", "side": "left", "view": "CC"}
    for name in (
        "cases/cancers/cancer_07/case1141/A_1141_1.LEFT_CC.LJPEG.png",
        "cancer_07-A_1141_1.LEFT_CC.LJPEG.1.jpg",
        "cancer_07/A_1141_1.LEFT_CC",
    ):
        assert parse_name(name) == {**expected, "diagnosis": "malignant"}
    assert parse_name("A_1141_1.LEFT_CC.png") == {**expected, "diagnosis": ""}
    for name in ("benign_without_callbacks_01/x/B_3102_1.RIGHT_MLO.png", "benign_01-B_3102_1.RIGHT_MLO.png"):
        row = parse_name(name)
        assert row is not None
        assert row["diagnosis"] == "benign"
    for name in ("E_1141_1.LEFT_CC.png", "A_1141_1.LEFT_AP.png", "A-1141-1.ics", "A_1141_1.LEFT_CC.png.txt/x.png"):
        assert parse_name(name) is None


def test_a_case_in_two_volumes_is_taken_once_with_the_worse_diagnosis(tmp_path: Path) -> None:
    for volume, sides in (("benign_05", ("LEFT", "RIGHT")), ("cancer_08", ("LEFT",))):
        for side in sides:
            write_png(tmp_path / volume / "case1500" / f"A_1500_1.{side}_CC.png", draw_film(1))
    table = read_ddsm(tmp_path)
    assert table["image"].tolist() == ["A_1500_1.LEFT_CC", "A_1500_1.RIGHT_CC"]
    assert table["diagnosis"].tolist() == ["malignant", "malignant"]
    assert "cancer_08" in str(table["film"].iloc[0])


def test_sites_are_the_digitisers(tmp_path: Path) -> None:
    table = read_ddsm(write_ddsm(tmp_path))
    assert table["site"].value_counts().to_dict() == {"A": 24, "B": 24, "C": 24}
    assert (table["patient"].str[0] == table["site"]).all()


def test_real_films() -> None:
    table = read_ddsm(real_folder("mammo_ddsm66") / "images")
    assert len(table) == 66
    assert set(table["site"]) == {"A", "B", "D"}

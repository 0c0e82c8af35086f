import shutil
from pathlib import Path

import pytest

from fake_mammograms import draw_film, write_cbis_ddsm, write_dicom, write_png
from lit_dist.datamodules import MammographyDataModule
from lit_dist.datamodules.mammography.cbis_ddsm import FILES, read_cbis_ddsm, read_descriptions
from lit_dist.utils.errors import InputError
from real_data import real_folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_cbis_ddsm(tmp_path / "cbis", patients=6, crops=True)


@pytest.mark.parametrize(
    ("name", "patients", "pathologies"),
    [
        ("mass_case_description_train_set.csv", 691, {"MALIGNANT": 637, "BENIGN": 577 + 104}),
        ("mass_case_description_test_set.csv", 201, {"MALIGNANT": 147, "BENIGN": 194 + 37}),
        ("calc_case_description_train_set.csv", 602, {"MALIGNANT": 544, "BENIGN": 528 + 474}),
        ("calc_case_description_test_set.csv", 151, {"MALIGNANT": 129, "BENIGN": 130 + 67}),
    ],
)
def test_the_real_tables(name: str, patients: int, pathologies: dict[str, int]) -> None:
    table = read_descriptions(real_folder("mammo_cbis_csv") / name)
    counts = table["diagnosis"].str.upper().value_counts().to_dict()
    assert counts == pathologies
    assert len(table) == sum(pathologies.values())
    assert table["patient"].nunique() == patients
    assert not table["crop"].str.contains("\n").any()
    assert set(table["density"]) <= set("01234")


def test_the_real_films_together() -> None:
    """3,103 films of 1,566 patients; 31 patients are in the training set of one finding and the other's test set."""
    table = read_cbis_ddsm(real_folder("mammo_cbis_csv"), real_folder("mammo_cbis_dicom") / "png16_quarter")
    assert (len(table), table["patient"].nunique(), table["film"].notna().sum()) == (3103, 1566, 8)
    held_out = table.groupby("patient")["held_out"].agg(["min", "max"])
    assert (held_out["min"] == held_out["max"]).all()
    assert held_out["max"].sum() == 201 + 151 - 3
    assert (table.groupby(["patient", "side", "view"])["diagnosis"].nunique() == 1).all()
    there = table[table["film"].notna()].set_index("image")["diagnosis"]
    assert there.str.startswith("m").to_dict() == {name: "P_00820_LEFT" in name for name in there.index}


def test_a_real_dicom_is_found_by_the_uid_in_it(tmp_path: Path) -> None:
    shutil.copy(real_folder("mammo_cbis_dicom") / "1-282.dcm", tmp_path / "000123.dcm")
    (tmp_path / "broken.dcm").write_bytes(b"\0" * 50)
    table = read_cbis_ddsm(real_folder("mammo_cbis_csv"), tmp_path)
    assert table.loc[table["film"].notna(), "image"].tolist() == ["Mass-Test_P_00820_RIGHT_CC"]


def test_films_are_found_in_every_tree(root: Path) -> None:
    """By the series' UID, by the case's name, and by the UID in the file."""
    for number, old in enumerate(sorted(root.rglob("*_CC/**/1-1.dcm"))):
        case = old.parents[2].name
        new = [
            root / f"a/{case}/07-20-2016-DDSM-NA-1/1.000000-full mammogram images-2/000000.dcm",
            root / f"b/{old.parent.name}/1-249.dcm",
            root / f"c/image{number}.dcm",
            root / f"d/{case}.dcm",
        ][number % 4]
        if number % 4 == 2:
            write_dicom(old, draw_film(number), SeriesInstanceUID=old.parent.name)
        new.parent.mkdir(parents=True, exist_ok=True)
        old.rename(new)
    table = read_cbis_ddsm(root, root)
    assert len(table) == 12
    assert table["film"].notna().all()
    assert table["film"].map(str).nunique() == 12


def test_a_crop_is_told_from_a_mask_by_its_size(root: Path) -> None:
    table = read_cbis_ddsm(root, root, crop=True)
    assert len(table) == 12
    assert table["image"].str.endswith("_CC_1").all()
    for film, patient, side in zip(table["film"], table["patient"], table["side"], strict=True):
        assert Path(film.path).name == ("1-1.dcm" if int(patient[2:]) % 3 else "1-2.dcm")
        assert film.is_crop
        assert film.mirrored == (side == "right")


def test_the_worse_diagnosis_of_a_view_counts_in_both_tables(root: Path) -> None:
    text = (root / FILES[3]).read_text()
    row = text[text.index("P_00001") : text.index("P_00003")]
    row = row.replace("P_00001,", "P_00002,").replace(",RIGHT,", ",LEFT,").replace("RIGHT", "LEFT")
    assert read_cbis_ddsm(root, root).set_index("image")["diagnosis"]["Mass-Training_P_00002_LEFT_CC"] == "benign"
    row = row.replace("P_00001", "P_00002")
    (root / FILES[3]).write_text(text + row)
    table = read_cbis_ddsm(root, root).set_index("image")
    assert table["diagnosis"]["Mass-Training_P_00002_LEFT_CC"] == "malignant"
    assert table["diagnosis"]["Calc-Test_P_00002_LEFT_CC"] == "malignant"
    assert table.loc[table["patient"] == "P_00002", "held_out"].all()


def test_two_files_that_may_be_a_film_are_refused(root: Path) -> None:
    film = next(root.rglob("Mass-Training_P_00002_LEFT_CC/**/1-1.dcm"))
    shutil.copy(film, film.with_name("1-2.dcm"))
    with pytest.raises(InputError, match=r"train_set\.csv, row 2: both .*1-1\.dcm and .*1-2\.dcm may be its film"):
        read_cbis_ddsm(root, root)


def test_a_film_is_missing_rather_than_guessed(root: Path) -> None:
    shutil.rmtree(next(root.rglob("Mass-Training_P_00002_LEFT_CC")))
    write_png(root / "other.png", draw_film(1))
    assert read_cbis_ddsm(root, root)["film"].isna().sum() == 1


def test_files_named_by_their_own_uid_are_found_by_the_one_in_them(tmp_path: Path) -> None:
    """As most archives write DICOM files; a folder may have the study's UID."""
    place = tmp_path / "1.2.3.4" / "1.3.6.1.4.1.9590.100.1.2.1234.dcm"
    place.parent.mkdir()
    shutil.copy(real_folder("mammo_cbis_dicom") / "1-282.dcm", place)
    table = read_cbis_ddsm(real_folder("mammo_cbis_csv"), tmp_path)
    assert table.loc[table["film"].notna(), "image"].tolist() == ["Mass-Test_P_00820_RIGHT_CC"]


def test_a_damaged_crop_is_left_out_alone(root: Path, tmp_path: Path) -> None:
    crop = read_cbis_ddsm(root, root, crop=True)["film"][0]
    Path(crop.path).write_bytes(b"\0" * 50)
    settings = {"size": 16, "sites": 1, "crop": True, "cache_dir": tmp_path / "cache", "allow_one_class": True}
    with pytest.raises(InputError, match=f"1 images cannot be used(?s:.*){Path(crop.path).name}"):
        MammographyDataModule(root, **settings).prepare_data()
    data = MammographyDataModule(root, on_error="skip", **settings)
    with pytest.warns(UserWarning, match="1 images are left out"):
        data.prepare_data()
    data.setup("test")
    assert len(data.table) == 11


def test_without_a_published_test_set_there_is_none_to_ask_for(root: Path, tmp_path: Path) -> None:
    for name in FILES[1::2]:
        (root / name).unlink(missing_ok=True)
    data = MammographyDataModule(root, published_test=True, cache_dir=tmp_path / "cache")
    with pytest.raises(InputError, match=r"published_test=true needs one of mass_case_description_test_set\.csv and"):
        data.table  # noqa: B018  # it is read when it is asked for

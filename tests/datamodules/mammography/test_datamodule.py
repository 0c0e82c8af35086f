import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from contract import DataModuleContract, Make, once, pixels_of
from fake_mammograms import (
    draw_film,
    write_cbis_ddsm,
    write_ddsm,
    write_dicom,
    write_mini_mias,
    write_pgm,
    write_table,
)
from lit_dist.datamodules import MammographyDataModule
from lit_dist.utils.errors import InputError
from real_data import real_folder

TABLE = {"image_column": "file", "label_column": "finding", "patient_column": "person"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return shutil.copytree(once(write_mini_mias), tmp_path / "mias")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return shutil.copytree(once(write_table), tmp_path / "own")


def make(root: Path, **settings: Any) -> MammographyDataModule:
    return MammographyDataModule(**{"root": root, "size": 32, "cache_dir": root.parent / "cache", **settings})


WRITERS: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    "mini-MIAS": (write_mini_mias, {}),
    "CBIS-DDSM": (write_cbis_ddsm, {}),
    "DDSM": (write_ddsm, {}),  # whose real sites are the digitisers
    "table": (write_table, TABLE),
}


class TestDrawnFilms(DataModuleContract):
    @pytest.fixture(params=WRITERS)
    def make(self, request: pytest.FixtureRequest) -> Make:
        write, settings = WRITERS[request.param]
        return partial(make, once(write), **settings)


class TestRealFilms(DataModuleContract):
    """The same contract over the complete mini-MIAS."""

    cache: Path | None = None

    @pytest.fixture
    def make(self, tmp_path_factory: pytest.TempPathFactory) -> Make:
        cls, root = type(self), real_folder("mammo_minimias")
        cls.cache = cls.cache or tmp_path_factory.mktemp("real-cache")
        return lambda **settings: make(root, images=root / "images512", cache_dir=cls.cache, **settings)


# -- tasks, views, crops and columns ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "films", "classes"),
    [
        ("malignant", 48, [36, 12]),
        ("malignant_benign", 24, [12, 12]),
        ("abnormal", 48, [24, 24]),
        ("density", 48, [16, 16, 16]),
    ],
)
def test_tasks(root: Path, task: Any, films: int, classes: list[int]) -> None:
    data = make(root, task=task)
    assert data.num_classes == len(classes)
    assert len(data.table) == films
    assert data.table["label"].value_counts().sort_index().tolist() == classes


def test_densities_of_bi_rads_and_of_mini_mias(tmp_path: Path, table: Path) -> None:
    assert make(write_cbis_ddsm(tmp_path / "cbis"), task="density").num_classes == 4
    path = table / "labels.csv"
    text = path.read_text()
    for words, classes in (("1 2 3 4", 4), ("a B C d", 4), ("F G D G", 3)):
        changed = text
        for old, new in zip(("normal", "malignant", "Benign", ",M,"), words.split(), strict=True):
            changed = changed.replace(old, new if old != ",M," else f",{new},")
        path.write_text(changed)
        data = make(table, task="density", **TABLE)
        assert data.table["label"].nunique() == classes
        assert data.num_classes == classes


def test_one_view_or_all(tmp_path: Path, root: Path) -> None:
    ddsm = write_ddsm(tmp_path / "ddsm")
    for views in ("CC", "MLO"):
        table = make(ddsm, views=views).table
        assert len(table) == 36
        assert table["image"].str.endswith(views).all()
    with pytest.raises(InputError, match="has no CC views; set views=all"):
        _ = make(root, views="CC").table


def test_both_breasts_and_all_findings_of_a_patient_stay_together(root: Path) -> None:
    table = make(root).table
    assert (table.groupby("patient").size() == 2).all()
    assert (table.groupby("patient")[["site", "split"]].nunique() == 1).all().all()


def test_crops_are_other_images_than_films(root: Path, tmp_path: Path) -> None:
    whole, parts = make(root, task="malignant_benign"), make(root, task="malignant_benign", crop=True)
    assert parts.table["image"].tolist() == [f"{name}_0" for name in whole.table["image"]]
    assert not (pixels_of(whole) == pixels_of(parts)).all(axis=(1, 2, 3)).any()
    assert parts.left_out_of["", "without a finding that has a place (crop=true)"] == 24
    cbis = make(write_cbis_ddsm(tmp_path / "cbis", crops=True), crop=True)
    assert len(pixels_of(cbis)) == 48


def test_real_crops_with_a_table_are_shown_whole(tmp_path: Path) -> None:
    folder = real_folder("mammo_minimias")
    data = MammographyDataModule(
        folder / "roi224", labels=folder / "roi224.csv", image_column="file", patient_column="patient", crop=True,
        task="abnormal", size=224, cache_dir=tmp_path,
    )  # fmt: skip
    assert data.class_names == ("normal", "abnormal")
    data.prepare_data()
    images = dict(zip(data.table["image"], pixels_of(data), strict=True))
    with Image.open(folder / "roi224" / "mdb003_n.png") as image:
        greys = np.asarray(image.convert("L")).astype(float)
    shown = images["mdb003_n.png"][..., 0].astype(float)
    assert np.corrcoef(greys.ravel(), shown.ravel())[0, 1] > 0.98, "neither turned nor mirrored nor masked"


def test_the_published_test_set(tmp_path: Path) -> None:
    root = write_cbis_ddsm(tmp_path / "cbis")
    data = make(root, published_test=True, sites=2, allow_one_class=True)
    odd = data.table["patient"].str[-1].isin(list("13579"))
    assert (data.table["split"].eq("test") == odd).all()


def test_real_hospitals_come_from_a_column(table: Path) -> None:
    data = make(table, **TABLE, site_column="hospital", view_column="projection", views="CC")
    assert set(data.sites) == {"Bern", "Oslo", "Lund"}
    assert make(table, **TABLE, site_column="hospital", sites=["Oslo"]).sites == ["Oslo"]


def test_labels_of_a_table_may_be_words_letters_and_numbers(table: Path) -> None:
    assert make(table, **TABLE).table["label"].value_counts().to_dict() == {0: 20, 1: 20}
    assert make(table, **TABLE, task="abnormal").table["label"].value_counts().to_dict() == {1: 30, 0: 10}
    path = table / "labels.csv"
    path.write_text(path.read_text().replace("normal", "0").replace("malignant", "1"))
    assert make(table, **TABLE).table["label"].value_counts().to_dict() == {0: 20, 1: 20}


def test_images_in_a_table_may_lack_their_suffix(table: Path) -> None:
    expected = make(table, **TABLE).table["label"].tolist()
    path = table / "labels.csv"
    path.write_text(path.read_text().replace(".png", ""))
    data = make(table, **TABLE)
    assert sorted(data.table["label"]) == sorted(expected)
    assert len(pixels_of(data)) == 40


def test_the_format_is_told_by_the_files(root: Path, table: Path, tmp_path: Path) -> None:
    folders = {"mini_mias": root, "table": table, "ddsm": write_ddsm(tmp_path / "ddsm", cases=12)}
    folders["cbis_ddsm"] = write_cbis_ddsm(tmp_path / "cbis", patients=2)
    assert [make(folder).format for folder in folders.values()] == list(folders)
    (root / "Info.txt").rename(root / "README")
    (root / "labels.csv").write_text("image,label\n")
    assert make(root).format == "mini_mias"
    assert make(root, labels=root / "labels.csv").format == "table"


def test_augmentation_does_not_mirror(root: Path) -> None:
    augmentation = make(root).augmentation
    assert augmentation is not None
    assert not augmentation.horizontal_flip
    assert not augmentation.vertical_flip
    assert 0 < augmentation.rotation <= 15


# -- real images -----------------------------------------------------------------------------------------------------


SOME = {"sites": 1, "allow_one_class": True, "val_fraction": 0, "test_fraction": 0, "on_error": "skip", "size": 128}


def some(root: Path, missing: int, **settings: Any) -> dict[str, np.ndarray]:
    """The prepared images of a collection of which few are there."""
    data = make(root, **{**SOME, **settings})
    with pytest.warns(UserWarning, match=f"{missing} are missing"):
        names = data.table["image"].tolist()
    return dict(zip(names, pixels_of(data), strict=True))


def test_original_films_of_mini_mias_are_prepared_like_reduced_ones(tmp_path: Path) -> None:
    folder = real_folder("mammo_minimias")
    settings = {"labels": folder / "README", "format": "mini_mias", "cache_dir": tmp_path / "cache"}
    originals = some(folder, 319, images=folder / "orig_pgm_sample", **settings)
    for name in originals:
        shutil.copy(folder / "images512" / f"{name}.png", tmp_path)
    reduced = some(folder, 319, images=tmp_path, **settings)
    for name, image in originals.items():
        assert np.abs(reduced[name].astype(int) - image).mean() < 6


def test_real_films_of_cbis_ddsm(tmp_path: Path) -> None:
    folder = real_folder("mammo_cbis_dicom")
    shutil.copy(folder / "1-282.dcm", tmp_path / "1-282.dcm")
    settings = {"labels": real_folder("mammo_cbis_csv"), "cache_dir": tmp_path / "cache"}
    films = some(folder, 3095, images=folder / "png16_quarter", **settings)
    assert len(films) == 8
    assert all(image[64, 0].min() > 20 and image[:, 120:].max() == 0 for image in films.values())
    (original,) = some(tmp_path, 3102, **settings).values()
    assert np.abs(original.astype(int) - films["Mass-Test_P_00820_RIGHT_CC"]).mean() < 3


# -- the cache -------------------------------------------------------------------------------------------------------


def test_a_changed_film_or_method_never_meets_an_old_entry(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = pixels_of(make(root))
    write_pgm(root / "mdb003.pgm", draw_film(99, right=True))
    place = make(root).table["image"].tolist().index("mdb003")
    after = pixels_of(make(root))
    assert (after[place] != before[place]).any()
    assert (np.delete(after, place, 0) == np.delete(before, place, 0)).all()
    folder = make(root).cache().folder
    monkeypatch.setattr("lit_dist.datamodules.mammography.breast.VERSION", 99)
    assert make(root).cache().folder != folder


# -- bad input -------------------------------------------------------------------------------------------------------


def test_kinds_of_files_that_hold_greys(table: Path) -> None:
    film = draw_film(0)
    expected = pixels_of(make(table, **TABLE))[0].astype(int)
    folder = table / "films"
    (folder / "0.png").unlink()
    Image.fromarray(film).save(folder / "0.tif")
    Image.fromarray((film >> 8).astype(np.uint8)).convert("RGB").save(folder / "1.png")
    (folder / "2.png").unlink()
    write_dicom(folder / "2.dcm", draw_film(2))
    path = table / "labels.csv"
    path.write_text(path.read_text().replace("0.png", "0.tif", 1).replace("s/2.png", "s/2.dcm"))
    data = make(table, **TABLE)
    images = dict(zip(data.table["image"], pixels_of(data), strict=True))
    assert (images["films/0.tif"] == expected).all()
    assert images["films/2.dcm"].max() == 255


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "cancer"}, "task='cancer' is not one of malignant"),
        ({"size": 2}, "size=2"),
        ({"crop": True, "task": "abnormal"}, "crop=true leaves normal films out"),
        ({"published_test": True}, "mini_mias has no test set of its own"),
        ({"format": "dicom"}, "format='dicom' is not one of cbis_ddsm"),
        ({"views": "AP"}, "views='AP' is not one of CC"),
        ({"on_error": "ignore"}, "on_error='ignore' is not one of raise"),
    ],
)
def test_refused_settings(root: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(root, **settings)


def test_paths_may_be_strings(root: Path, tmp_path: Path) -> None:
    data = MammographyDataModule(str(root), labels=str(root / "Info.txt"), images=str(root), cache_dir=str(tmp_path))
    assert isinstance(data.table, pd.DataFrame)

"""Damaged tables and lists of all collections: each is refused once, naming the file and the row, or read rightly."""

from pathlib import Path

import pytest

from damaged import COLLECTIONS, Damage, append, cut, edit, folder, link, put, zeros
from lit_dist.utils.errors import InputError

pytestmark = pytest.mark.timeout(60, method="thread")

LISTS = {
    "fundus": "trainLabels.csv",
    "mini-MIAS": "Info.txt",
    "CBIS-DDSM": "mass_case_description_train_set.csv",
    "table": "labels.csv",
    "Tiny-ImageNet": "val/val_annotations.txt",
    "ImageNet": "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt",
}
META = "ILSVRC2012_devkit_t12/data/meta.mat"
DOTS = "../../etc/passwd"

# by collection: what is done to its list, and what the message says after the list's name
DAMAGED: dict[str, tuple[Damage, str]] = {
    # all rows
    "fundus: UTF-16": (lambda path: path.write_bytes(path.read_text().encode("utf-16")), "UTF-8"),
    "fundus: zeros": (zeros, r"\w"),
    "fundus: a photograph": (lambda path: path.write_bytes(image("fundus", path)), "UTF-8|read"),
    "fundus: only blank rows": (put(b"image,level\n\n,\n\n"), "has no rows"),
    "fundus: a column twice": (edit("image,level", "image,level,level"), r"two columns 'level'"),
    "fundus: spaces between": (lambda path: edit(",", " ", 99)(path), "has no column 'image'"),
    "fundus: a folder": (folder, "is a folder, not a file"),
    "fundus: an open quote": (edit("4_left", '"4_left'), "cannot be read as a comma-separated|row 10"),
    # one row
    "fundus: a row twice": (append("0_left,0\n"), "row 34 repeats '0_left' of row 2"),
    "fundus: two grades": (append("0_left,4\n"), "row 34 repeats '0_left' of row 2"),
    "fundus: a row too short": (edit("4_left,0", "4_left"), "row 10: level is empty"),
    "fundus: a row too long": (edit("4_left,0", "4_left,0,1,2"), "cannot be read|row"),
    "fundus: a grade of no number": (edit("4_left,0", "4_left,nan"), "row 10: level is 'nan'"),
    "fundus: after blank rows": (edit("4_left,0", "\n\n4_left,6"), "row 12: level is '6'"),
    "fundus: a name with a zero byte": (edit("4_left", b"4_l\0eft"), "row 10"),
    "table: an unknown finding": (edit("4.png,Benign", "4.png,odd"), "row 6: finding is 'odd', not one"),
    "table: a row twice": (append("films/4.png,M,p2,Bern,CC\n"), r"row 26 repeats '.*films/4\.png' of row 6"),
    "table: a patient of two hospitals": (edit("Benign,p2,Lund", "Benign,p2,Bern"), "'p2' is in more than one"),
    "table: a zero byte": (edit("films/4.png", b"films/4\0.png"), "row 6"),
    "table: a folder's name": (edit("films/4.png", "films"), "row 6: there is no image 'films'"),
    "CBIS-DDSM: empty": (put(b""), "cannot be read as a comma-separated"),
    "CBIS-DDSM: no density": (edit("breast_density", "density"), "no column 'breast_density'"),
    "CBIS-DDSM: an absolute path": (edit("Mass-Training_P_00002_LEFT_CC/", "/etc/"), "row 2: film is '/etc/"),
    "CBIS-DDSM: Latin-1": (edit("OVAL", b"OV\xc4L"), "UTF-8"),
    "CBIS-DDSM: half": (cut(0.5), "cannot be read|row"),
    "CBIS-DDSM: a bad UID": (edit("1.3.6.1.4.2.4.1", "1.3.6.x"), "row 2: film is 'Mass-Training_P_00002"),
    "CBIS-DDSM: dots for a UID": (edit("1.3.6.1.4.2.4.1", ".."), "row 2: film is 'Mass-Training_P_00002"),
    "CBIS-DDSM: a patient of no number": (edit("P_00002,", "P_2,"), "row 2: patient is 'P_2'"),
    "CBIS-DDSM: an unknown side": (edit("LEFT,CC", "BOTH,CC"), "row 2: side is 'BOTH'"),
    "CBIS-DDSM: an unknown pathology": (edit("BENIGN", "UNPROVEN"), "row 2: pathology is 'UNPROVEN"),
    "CBIS-DDSM: a column missing": (edit("pathology", "verdict"), "no column 'pathology'; it has patient"),
    "CBIS-DDSM: a row twice": (
        lambda path: append(path.read_bytes().partition(b"\n")[2])(path),
        "repeats 'P_00002 LEFT CC 1' of row 2",
    ),
    "mini-MIAS: Latin-1": (edit("CIRC", b"C\xcdRC"), "cannot be read as UTF-8 text"),
    "mini-MIAS: UTF-16": (put(b"\xff\xfem\0d\0b\0"), "cannot be read as UTF-8 text"),
    "mini-MIAS: empty": (put(b""), "lists no films"),
    "mini-MIAS: zeros": (zeros, "lists no films"),
    "mini-MIAS: no films": (lambda path: edit("mdb", "film ", 99)(path), "lists no films"),
    "mini-MIAS: an unknown tissue": (edit("mdb005 D", "mdb005 Q"), "line 7: 'mdb005 Q"),
    "mini-MIAS: no radius": (edit("705 512 60", "705 512"), "line 7: 'mdb005 D CIRC"),
    "mini-MIAS: a negative radius": (edit("705 512 60", "705 512 -60"), "line 7: 'mdb005 D CIRC"),
    "mini-MIAS: a normal finding": (edit("D CIRC", "D NORM"), "line 7: 'mdb005 D NORM"),
    "mini-MIAS: normal, and a finding": (append("mdb002 D CIRC B 1 2 3\n"), "line 4 repeats 'mdb002'"),
    "mini-MIAS: words for places": (edit("705 512 60", "left top 60"), "line 7: 'mdb005 D CIRC"),
    "mini-MIAS: a line twice": (append("mdb002 D NORM\n"), "line 4 repeats 'mdb002'"),
    "Tiny-ImageNet: Latin-1": (edit("val_0", b"val_\xe9"), "cannot be read as UTF-8 text"),
    "Tiny-ImageNet: no tabs": (edit("val_0.JPEG\t", "val_0.JPEG "), "line 1: 'val_0.JPEG cat"),
    "Tiny-ImageNet: a line twice": (append("val_0.JPEG\tcat\n"), "line 7: the image 'val_0.JPEG'"),
    "Tiny-ImageNet: two classes": (append("val_0.JPEG\tdog\n"), "line 7: the image 'val_0.JPEG'"),
    "Tiny-ImageNet: no such image": (
        append("val_99.JPEG\tcat\t0\t0\t9\t9\n"),
        "line 7: there is no image 'val/images/val_99.JPEG' in .*on_error=skip",
    ),
    "Tiny-ImageNet: a folder": (edit("val_0.JPEG", ".."), r"line 1: '..\\tcat"),
    "Tiny-ImageNet: a zero byte": (edit("val_0.JPEG", b"val_0.JPEG\0"), r"line 1: 'val_0.JPEG\\x00"),
    "Tiny-ImageNet: dots": (edit("val_0.JPEG", DOTS), f"line 1: '{DOTS}"),
    "Tiny-ImageNet: an absolute path": (edit("val_0.JPEG", "/etc/passwd"), "line 1: '/etc/passwd"),
    "Tiny-ImageNet: a blank line": (append("\n"), "line 7: ''"),
    "ImageNet: words": (edit("3\n", "cat\n"), "line 1: 'cat' is not the number of a class"),
    "ImageNet: a number of no class": (edit("3\n", "4\n"), "line 1: '4' is not the number of a class"),
    "ImageNet: a blank line": (edit("3\n", "\n"), "line 1: '' is not the number of a class"),
    "ImageNet: a raised number": (edit("3\n", "²\n"), "line 1: '²' is not the number of a class"),
    "ImageNet: too long": (append("1\n"), "line 7: there is no image .*00000007.JPEG"),
    "ImageNet: too short": (cut(0.6), "00000004.JPEG is not one of the 3 images|is not one of the"),
    "ImageNet: empty": (put(b""), "is empty"),
    "ImageNet: UTF-16": (put("3\n2\n".encode("utf-16")), "cannot be read as UTF-8 text"),
    "ImageNet: a number without end": (edit("3\n", "9" * 5000 + "\n"), "line 1: '9999"),
}


def image(collection: str, path: Path) -> bytes:
    return (path.parent / COLLECTIONS[collection].image).read_bytes()


def damaged(name: str, root: Path, damage: Damage, file: str = "") -> Path:
    path = COLLECTIONS[name].copy(root) / (file or LISTS[name])
    damage(path)
    return path


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.filterwarnings("ignore:1 images in .* have no row")
def test_a_damaged_list_is_refused_with_its_row(name: str, tmp_path: Path) -> None:
    collection, (damage, message) = name.partition(":")[0], DAMAGED[name]
    path = damaged(collection, tmp_path / "root", damage)
    with pytest.raises(InputError, match=message) as refusal:
        COLLECTIONS[collection].make(tmp_path / "root").prepare_data()
    text = str(refusal.value)
    assert path.name in text or "in more than" in text or "mini-MIAS" in name
    assert len(text) < 700
    assert "\n" not in text


META_DAMAGES: dict[str, Damage] = {
    "missing": lambda path: path.unlink(),
    "empty": put(b""),
    "half": cut(0.5),
    "zeros": zeros,
    "text": put(b"synsets = 1000"),
    "a pickle": put(b"\x80\x04\x95\x0f\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94."),
    "a folder": folder,
    "a link to nowhere": link("nowhere"),
}


@pytest.mark.parametrize("name", META_DAMAGES)
def test_a_damaged_table_of_imagenets_classes_is_refused(name: str, tmp_path: Path) -> None:
    damaged("ImageNet", tmp_path / "root", META_DAMAGES[name], META)
    with pytest.raises(InputError, match=r"meta\.mat.*(cannot be read|says what)"):
        COLLECTIONS["ImageNet"].make(tmp_path / "root").prepare_data()


NO_FILMS = "holds no film named as DDSM's are"
MISSING: list[tuple[str, dict[str, str], str]] = [
    *((name, {}, NO_FILMS) for name in ("mini-MIAS", "CBIS-DDSM", "table")),
    ("mini-MIAS", {"format": "mini_mias"}, r"there is no .*Info\.txt, the list of films"),
    ("CBIS-DDSM", {"format": "cbis_ddsm"}, f"has none of CBIS-DDSM's tables: {LISTS['CBIS-DDSM']}"),
    ("fundus", {}, r"there is no table at .*trainLabels\.csv"),
    ("Tiny-ImageNet", {}, "there is no folder .*val/cat"),
    ("ImageNet", {}, "images that are not in folders of classes, .*unpack ILSVRC2012_devkit"),
]


@pytest.mark.parametrize(("name", "settings", "message"), MISSING)
def test_a_list_that_is_missing_is_said(name: str, settings: dict[str, str], message: str, tmp_path: Path) -> None:
    root = COLLECTIONS[name].copy(tmp_path / "root")
    for path in [root / LISTS[name], *root.glob("*.csv")]:
        path.unlink(missing_ok=True)
    with pytest.raises(InputError, match=message):
        COLLECTIONS[name].make(root, **settings).prepare_data()


# -- DDSM has no list, but names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["unsorted", "cancer_1", "NORMAL_02"])
def test_films_of_ddsm_in_no_volume_are_refused(name: str, tmp_path: Path) -> None:
    root = COLLECTIONS["DDSM"].copy(tmp_path / "root")
    (root / "normal_02").rename(root / name)
    with pytest.raises(InputError, match=rf"{name}/.*it has no diagnosis .*volume's folder, such as benign_01"):
        COLLECTIONS["DDSM"].make(root).prepare_data()


@pytest.mark.parametrize(
    "name", ["E_0004_1.LEFT_CC.png", "B_4_1.LEFT_CC.png", "B_0004_1.UP_CC.png", "B_0004_1.LEFT_AP.png", "x.png"]
)
def test_a_folder_of_names_that_ddsm_has_not_is_refused(name: str, tmp_path: Path) -> None:
    root = COLLECTIONS["DDSM"].copy(tmp_path / "root")
    for path in sorted(root.rglob("*.png"))[1:]:
        path.unlink()
    next(root.rglob("*.png")).rename(root / name)
    with pytest.raises(InputError, match=r"holds no film named as DDSM's are.*convert the LJPEG files"):
        COLLECTIONS["DDSM"].make(root).prepare_data()


# -- what is read all the same -----------------------------------------------------------------------------------------

HARMLESS: dict[str, Damage] = {
    "a mark at the beginning": lambda path: path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes()),
    "two characters an end of line": lambda path: edit(b"\n", b"\r\n", 10**6)(path),
    "both": lambda path: path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n")),
}
TABLES_ALONE: dict[str, Damage] = {
    "semicolons": lambda path: edit(",", ";", 10**6)(path),
    "semicolons, a mark and ends of line": lambda path: path.write_bytes(
        b"\xef\xbb\xbf" + path.read_bytes().replace(b",", b";").replace(b"\n", b"\r\n")
    ),
    "tabs": lambda path: edit(",", "\t", 10**6)(path),
    "blank rows at the end": append("\n\n\r\n"),
    "blank rows at the beginning": lambda path: path.write_bytes(path.read_bytes().replace(b"\n", b"\n\n,\n", 1)),
    "a quoted header": lambda path: path.write_text(
        ",".join(f'"{name}"' for name in path.read_text().partition("\n")[0].split(","))
        + "\n"
        + path.read_text().partition("\n")[2]
    ),
}
CASES = [
    *((collection, name, how) for collection in LISTS for name, how in HARMLESS.items()),
    *((collection, name, how) for collection in ("fundus", "CBIS-DDSM", "table") for name, how in TABLES_ALONE.items()),
]


@pytest.mark.parametrize(("collection", "name", "how"), CASES, ids=[f"{where}: {name}" for where, name, _ in CASES])
def test_marks_ends_of_line_and_other_separators_change_nothing(
    collection: str, name: str, how: Damage, tmp_path: Path
) -> None:
    root = COLLECTIONS[collection].copy(tmp_path / "root")
    columns = ["image", "patient", "label", "site", "split"]
    expected = COLLECTIONS[collection].make(root).table[columns]
    how(root / LISTS[collection])
    assert COLLECTIONS[collection].make(root).table[columns].equals(expected)

"""The files beside DDSM's films, and what damaged ones are told."""

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

from contract import pixels_of
from fake_mammograms import write_ddsm, write_ddsm_facts
from lit_dist.datamodules import MammographyDataModule
from lit_dist.datamodules.mammography.ddsm import read_ddsm
from lit_dist.datamodules.mammography.ddsm_case import Case, read_case, read_findings
from lit_dist.utils.errors import InputError

SIZE = (3024, 4696, 20.0)
"""Of a film, in pixels, at 50 micrometres each."""

ICS = """ics_version 1.0
filename B-3024-1
DATE_OF_STUDY 2 7 1995
PATIENT_AGE 42
FILM
FILM_TYPE REGULAR
DENSITY 4
DIGITIZER LUMISYS LASER
SEQUENCE
LEFT_CC LINES 4696 PIXELS_PER_LINE 3024 BITS_PER_PIXEL 12 RESOLUTION 50 OVERLAY
RIGHT_MLO LINES 4624 PIXELS_PER_LINE 3056 BITS_PER_PIXEL 12 RESOLUTION 43.5 NON_OVERLAY
"""
OVERLAY = """TOTAL_ABNORMALITIES 2
ABNORMALITY 1
LESION_TYPE CALCIFICATION TYPE PLEOMORPHIC DISTRIBUTION CLUSTERED
LESION_TYPE MASS SHAPE IRREGULAR MARGINS SPICULATED
ASSESSMENT 5
SUBTLETY 4
PATHOLOGY MALIGNANT
TOTAL_OUTLINES 2
BOUNDARY
{outline}
\tCORE
1500 2500 2 4 6 0 #
ABNORMALITY 2
LESION_TYPE MASS SHAPE OVAL MARGINS CIRCUMSCRIBED
ASSESSMENT 2
SUBTLETY 5
PATHOLOGY UNPROVEN
TOTAL_OUTLINES 1
BOUNDARY
100 200 2 2 4 4 6 6 0 0 #
"""


def chain(points: list[tuple[int, int]]) -> str:
    """The code of an outline, written independently of the reader: by the angle of each step."""
    codes = []
    for (x, y), (to_x, to_y) in itertools.pairwise(points):
        codes.append(round(np.degrees(np.arctan2(to_x - x, y - to_y)) / 45) % 8)
    return f"{points[0][0]} {points[0][1]} {' '.join(map(str, codes))} #"


def overlay(folder: Path, outline: str) -> Path:
    path = folder / "B_3024_1.LEFT_CC.OVERLAY"
    path.write_text(OVERLAY.format(outline=outline))
    return path


def test_facts_of_a_case(tmp_path: Path) -> None:
    path = tmp_path / "B-3024-1.ics"
    path.write_text(ICS)
    assert read_case(path, tmp_path) == Case(
        "4", {"LEFT_CC": (3024, 4696, 20.0), "RIGHT_MLO": (3056, 4624, 1000 / 43.5)}
    )


def test_an_outline_is_surrounded_by_a_square(tmp_path: Path) -> None:
    disc = cv2.circle(np.zeros((4696, 3024), np.uint8), (1500, 2500), 400, 1, -1)
    [contour], _ = cv2.findContours(disc, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    (diagnosis, box), (other, small) = read_findings(
        overlay(tmp_path, chain([(int(x), int(y)) for x, y in contour[:, 0]])), tmp_path, SIZE
    )
    assert (diagnosis, other) == ("malignant", "")
    half = 1.5 * 801 / 2
    expected = [(1500.5 - half) / 3024, (2500.5 - half) / 4696, (1500.5 + half) / 3024, (2500.5 + half) / 4696]
    assert box == pytest.approx(expected)
    assert small[2] - small[0] == pytest.approx(22.4 * 20 / 3024), "no less than 22.4 mm"


@pytest.mark.parametrize(
    ("outline", "message"),
    [
        ("10 20 2 4 6 8 #", r"line 10 is not an outline"),
        ("10 20 2 4 6 -1 #", r"line 10 is not an outline"),
        ("10 20 2 4 6 0", r"line 10 is not an outline"),
        ("10 #", r"line 10 is not an outline"),
        ("", r"line 10 is not an outline"),
        ("10 x #", r"line 10 is not an outline"),
        (f"{10**30} 20 2 #", r"line 10"),
        ("3020 20 2 2 2 2 #", r"line 10: the outline leaves the film, which has 3024 x 4696 pixels"),
        ("10 2 0 0 0 #", r"line 10: the outline leaves the film"),
    ],
)
def test_damaged_outlines_are_refused(outline: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"B_3024_1\.LEFT_CC\.OVERLAY, {message}"):
        read_findings(overlay(tmp_path, outline), tmp_path, SIZE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no line BOUNDARY"),
        (b"BOUNDARY\n10 20 2 #\n", "line 1: a boundary without one of the pathologies MALIGNANT, BENIGN"),
        (b"PATHOLOGY ODD\nBOUNDARY\n10 20 2 #\n", "line 2: a boundary without one of the pathologies"),
        (b"PATHOLOGY BENIGN\nBOUNDARY", "line 2 is not an outline"),
        (b"\xff\xfe", "cannot be read as UTF-8 text"),
        (b"#" * 4_000_001, "is longer than 4000000 bytes"),
    ],
)
def test_damaged_files_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "B_3024_1.LEFT_CC.OVERLAY"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_findings(path, tmp_path, SIZE)


@pytest.mark.parametrize(
    "line", ["", "LEFT_CC LINES 0 PIXELS_PER_LINE 9 X RESOLUTION 50", "LEFT_CC LINES 9 PIXELS_PER_LINE 9 RESOLUTION 0"]
)
def test_a_case_without_films_is_refused(line: str, tmp_path: Path) -> None:
    path = tmp_path / "B-3024-1.ics"
    path.write_text(line)
    with pytest.raises(InputError, match=r"B-3024-1\.ics lists no film"):
        read_case(path, tmp_path)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "B-3024-1.ics").write_text(ICS)
    (tmp_path / "inside" / "B-3024-1.ics").symlink_to(tmp_path / "B-3024-1.ics")
    with pytest.raises(InputError, match="leads out of"):
        read_case(tmp_path / "inside" / "B-3024-1.ics", tmp_path / "inside")


def test_findings_are_rows_with_diagnoses_of_their_own(tmp_path: Path) -> None:
    root = write_ddsm_facts(write_ddsm(tmp_path))
    table = read_ddsm(root, crop=True)
    assert len(table) == 27
    assert table["image"].str.fullmatch(r"[ABC]_\d{4}_1\.LEFT_(CC|MLO)_0").all()
    assert table["diagnosis"].value_counts().to_dict() == {"malignant": 18, "benign": 9}
    left, top, right, bottom = table["film"].iloc[0].box
    assert (left, top) == pytest.approx(((14 - 9) / 72, (46 - 9) / 96))
    assert (right, bottom) == pytest.approx(((14 + 9) / 72, (46 + 9) / 96))


def test_crops_and_densities_through_the_datamodule(tmp_path: Path) -> None:
    root = write_ddsm_facts(write_ddsm(tmp_path / "ddsm"))
    data = MammographyDataModule(root, task="density", size=32, allow_one_class=True)
    assert data.num_classes == 4
    assert (data.table["label"] == data.table["patient"].str[2:].astype(int) % 4).all()
    crops = MammographyDataModule(root, task="malignant_benign", crop=True, size=32, allow_one_class=True)
    assert crops.sites == ["A", "B", "C"]
    shown = crops.table["image"].str.rpartition("_")[0].nunique()
    assert crops.left_out_of["", "without a finding that has a place (crop=true)"] == 72 - shown
    seen = pixels_of(crops)
    assert len(seen) == 27
    assert (seen.max(axis=(1, 2, 3)) > 200).all()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    root = write_ddsm(tmp_path)
    with pytest.raises(InputError, match=r"there is no .*case0003/A-0003-1\.ics; it belongs beside the films"):
        read_ddsm(root, density=True)
    write_ddsm_facts(root)
    for path in root.rglob("*.OVERLAY"):
        path.unlink()
    with pytest.raises(InputError, match=r"has no \.OVERLAY beside its films"):
        read_ddsm(root, crop=True)


def test_films_whose_files_beside_them_are_damaged_are_skipped_if_asked_for(tmp_path: Path) -> None:
    root = write_ddsm_facts(write_ddsm(tmp_path))
    whole = read_ddsm(root, crop=True)
    overlay, other = sorted(root.rglob("*.OVERLAY"))[0], whole["patient"].iloc[-1]
    overlay.write_text("TOTAL_ABNORMALITIES 1\n")
    [case] = root.rglob(f"{other.replace('_', '-')}-1.ics")
    case.write_bytes(b"\xff\x00")
    with pytest.raises(InputError, match=case.name):
        read_ddsm(root, crop=True)
    with pytest.warns(UserWarning, match="2 files beside films cannot be used") as warned:
        left = read_ddsm(root, crop=True, skip=True)
    assert case.name in str(warned[0].message)
    assert overlay.name in str(warned[0].message)
    gone = set(whole["image"]) - set(left["image"])
    assert gone == {f"{overlay.stem}_0", *whole["image"][whole["patient"] == other]}
    with pytest.warns(UserWarning, match="1 files beside films"):
        assert other not in set(read_ddsm(root, density=True, skip=True)["patient"])
    for path in root.rglob("*.ics"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match="lists no film"):
        read_ddsm(root, crop=True, skip=True)


def test_the_datamodule_skips_them_too(tmp_path: Path) -> None:
    root = write_ddsm_facts(write_ddsm(tmp_path / "ddsm"))
    sorted(root.rglob("*.OVERLAY"))[0].write_text("")
    settings = {"task": "malignant_benign", "crop": True, "size": 32, "allow_one_class": True}
    with pytest.raises(InputError, match="outlines no finding"):
        MammographyDataModule(root, **settings).table  # noqa: B018
    with pytest.warns(UserWarning, match="1 files beside films"):
        assert len(MammographyDataModule(root, on_error="skip", **settings).table) == 26

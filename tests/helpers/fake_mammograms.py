"""Draws films and writes them as the collections are published: PGM, 16-bit PNG, DICOM, and their lists."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from lit_dist.datamodules.mammography.cbis_ddsm import FILES

CBIS_COLUMNS = (
    "patient_id,breast_density,left or right breast,image view,abnormality id,abnormality type,mass shape,mass margins,"
    "assessment,pathology,subtlety,image file path,cropped image file path,ROI mask file path"
)
PATHOLOGIES = ("BENIGN", "MALIGNANT", "BENIGN_WITHOUT_CALLBACK", "MALIGNANT")


def draw_film(seed: int, right: bool = False, size: tuple[int, int] = (96, 72), label: bool = True) -> np.ndarray:
    """A half ellipse at the left edge with bright tissue, or mirrored for a right breast, and a label; uint16."""
    chance = np.random.default_rng(seed)
    height, width = size
    film = np.full(size, 2_000 + seed, np.uint16)
    centre, axes = (0, height // 2), (int(0.6 * width), int(0.42 * height))
    cv2.ellipse(film, centre, axes, 0, 0, 360, 20_000, -1)
    inside = cv2.ellipse(np.zeros(size, np.uint8), centre, (axes[0] - 2, axes[1] - 2), 0, 0, 360, 1, -1) > 0
    tissue = cv2.GaussianBlur(chance.normal(0, 1, size), (0, 0), 3)
    film[inside] = np.clip(28_000 + 40_000 * tissue, 18_000, 50_000).astype(np.uint16)[inside]
    if label:
        film[2:8, width - 8 : width - 2] = 65_535
    return np.ascontiguousarray(film[:, ::-1]) if right else film


def write_pgm(path: Path, film: np.ndarray) -> None:
    """Write eight bits, as mini-MIAS has them."""
    greys = (film >> 8).astype(np.uint8)
    path.write_bytes(b"P5\n%d %d\n255\n" % greys.shape[::-1] + greys.tobytes())


def write_png(path: Path, film: np.ndarray) -> None:
    """Write all 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(film).save(path)


def write_dicom(path: Path, film: np.ndarray, compressed: bool = False, **tags: Any) -> Path:
    """Write a film with pydicom, plain or RLE-compressed; ``tags`` replace or, as None, remove what it would have."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage, generate_uid

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.Modality = generate_uid(), generate_uid(), "MG"
    dataset.Rows, dataset.Columns = film.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * film.dtype.itemsize
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    dataset.PixelData = film.tobytes()
    if compressed:
        dataset.compress(RLELossless)
    for name, value in tags.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_mini_mias(root: Path, patients: int = 24) -> Path:
    """Two films a patient, in the original layout; the right one has a finding, benign and malignant by turns."""
    root.mkdir(parents=True)
    lines = ["Some words before the list", ""]
    for number in range(1, 2 * patients + 1):
        write_pgm(root / f"mdb{number:03d}.pgm", draw_film(number, right=number % 2 == 1))
        finding = f"CIRC {'BM'[number // 2 % 2]} {700 + number} 512 60" if number % 2 else "NORM"
        lines.append(f"mdb{number:03d} {'FGD'[number % 3]} {finding} ")
    (root / "Info.txt").write_text("\n".join(lines) + "\n")
    return root


def write_ddsm(root: Path, cases: int = 36) -> Path:
    """Two films a case, as 16-bit PNG in the volumes' folders; digitisers A, B and C, diagnoses by turns."""
    for number in range(1, cases + 1):
        volume = ("cancer_01", "normal_02", "benign_without_callback_01", "cancer_02")[number // 3 % 4]
        for side in ("LEFT", "RIGHT"):
            name = f"{'ABC'[number % 3]}_{number:04d}_1.{side}_{('CC', 'MLO')[number % 2]}.png"
            write_png(root / volume / f"case{number:04d}" / name, draw_film(number, right=side == "RIGHT"))
    return root


def write_ddsm_facts(root: Path) -> Path:
    """Beside the films of ``write_ddsm``: each case's ``.ics``, and an outline on the left films of all but normals.

    The outline is a rectangle of 8 by 12 pixels with its corner at column 10 and row 40.
    """
    square = "10 40 " + " ".join("2" * 7 + "4" * 11 + "6" * 7 + "0" * 11) + " #"
    for folder in sorted(root.glob("*/case*")):
        films = sorted(folder.glob("*.png"))
        case = films[0].name.partition(".")[0]
        lines = ["ics_version 1.0", f"filename {case.replace('_', '-')}", f"DENSITY {int(case[2:6]) % 4 + 1} "]
        for film in films:
            name = film.stem.partition(".")[2]
            lines.append(f"{name} LINES 96 PIXELS_PER_LINE 72 BITS_PER_PIXEL 12 RESOLUTION 2000 OVERLAY")
            if name.startswith("LEFT") and "normal" not in folder.parts[-2]:
                pathology = "MALIGNANT" if "cancer" in folder.parts[-2] else "BENIGN_WITHOUT_CALLBACK"
                overlay = ["TOTAL_ABNORMALITIES 1", "ABNORMALITY 1", "LESION_TYPE MASS SHAPE OVAL MARGINS OBSCURED"]
                overlay += ["ASSESSMENT 4", "SUBTLETY 3", f"PATHOLOGY {pathology}", "TOTAL_OUTLINES 2", "BOUNDARY"]
                overlay += [square, "\tCORE", "14 44 2 4 6 0 #"]
                (folder / f"{film.stem}.OVERLAY").write_text("\r\n".join(overlay) + "\r\n")
        (folder / f"{case.replace('_', '-')}.ics").write_text("\n".join(lines) + "\n")
    return root


def write_cbis_ddsm(root: Path, patients: int = 24, crops: bool = False) -> Path:
    """Both breasts of each patient, in folders of UIDs, RLE-compressed by turns, with the four tables."""
    lines: dict[str, list[str]] = {
        name: [CBIS_COLUMNS.replace("breast_density", "breast density") if "calc" in name else CBIS_COLUMNS]
        for name in FILES
    }
    for number in range(1, patients + 1):
        for side in ("LEFT", "RIGHT"):
            name = FILES[number % 2 + (2 if side == "RIGHT" else 0)]
            prefix = f"{'Mass' if 'mass' in name else 'Calc'}-{'Test' if 'test' in name else 'Training'}"
            case, uid = f"{prefix}_P_{number:05d}_{side}_CC", f"1.3.6.1.4.{number}.{len(side)}"
            film = draw_film(2 * number + (side == "RIGHT"), right=side == "RIGHT")
            write_dicom(root / f"CBIS-DDSM/{case}/{uid}.1/{uid}.2/1-1.dcm", film, compressed=number % 2 == 0)
            paths = [f"{case}/{uid}.1/{uid}.2/000000.dcm"]
            paths += [f"{case}_1/{uid}.3/{uid}.4/00000{n}.dcm" for n in (1, 0)]
            if crops:
                folder = root / f"CBIS-DDSM/{case}_1/{uid}.3/{uid}.4"
                order = (1, 2) if number % 3 else (2, 1)
                write_dicom(folder / f"1-{order[0]}.dcm", film[30:60, 20:50])
                write_dicom(folder / f"1-{order[1]}.dcm", np.where(film > 20_000, 255, 0).astype(np.uint8))
            pathology = PATHOLOGIES[number % 4]
            lines[name].append(
                f"P_{number:05d},{number % 4 + 1},{side},CC,1,mass,OVAL,CIRCUMSCRIBED,4,{pathology},3,"
                f'{paths[0]},"{paths[1]}\n",{paths[2]}'
            )
    for name, content in lines.items():
        (root / name).write_text("\n".join(content) + "\n")
    return root


def write_table(root: Path, films: int = 40) -> Path:
    """A table of 16-bit PNGs, with patients and institutions."""
    rows = ["file,finding,person,hospital,projection"]
    for number in range(films):
        write_png(root / f"films/{number}.png", draw_film(number))
        finding = ("normal", "malignant", "Benign", "M")[number // 2 % 4]
        rows.append(f"films/{number}.png,{finding},p{number // 2},{('Bern', 'Oslo', 'Lund')[number // 2 % 3]},CC")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root

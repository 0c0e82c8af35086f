"""Writes a small folder in ODIR's form: both eyes of each patient, with age, sex and diagnoses."""

from pathlib import Path

import numpy as np
from PIL import Image

from lit_dist.datamodules.images.phantom_images import CameraLook, draw_phantom

DIAGNOSES = ("N", "D", "GC", "C", "DH")
UNKNOWN_AGE = 4  # photographs


def write_odir(root: Path, patients: int = 60, size: int = 48) -> Path:
    """The older, the brighter; the first two patients have the age 1, which says nothing."""
    (root / "images").mkdir(parents=True)
    rows = ["image,patient,eye,age,sex,diagnosis"]
    for patient in range(patients):
        age = 1 if 2 * patient < UNKNOWN_AGE else 20 + patient
        sex = ("female", "male")[patient % 2]
        for number, eye in enumerate(("left", "right")):
            name = f"{patient}_{eye}.jpg"
            drawn = draw_phantom(0, CameraLook.of_site(0), seed=2 * patient + number, size=size)
            pixels = np.clip(np.asarray(drawn, np.float64) * (0.5 + age / 100), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / "images" / name, quality=95)
            rows.append(f"{name},{patient},{eye},{age},{sex},{DIAGNOSES[(patient + number) % len(DIAGNOSES)]}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root

"""Writes small tables in the form of those that the shipped configurations read, and one with everything in it."""

from pathlib import Path

import numpy as np

_COLUMNS = "age sex cp trestbps chol fbs restecg thalach exang oldpeak slope ca thal num"
COLUMNS = _COLUMNS.split()
HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")


def write_ages(root: Path, people: int = 24) -> Path:
    """``abide.csv``: 20 sites that differ in age, 259 measures, of which the first ones depend on age."""
    rng = np.random.default_rng(0)
    root.mkdir(parents=True)
    lines = ["subject,site,age,sex,diagnosis," + ",".join(f"measure-{n}" for n in range(259))]
    for site in range(20):
        for person in range(people):
            age = 10 + site + 10 * rng.random()
            values = rng.normal(1000, 50, 259)
            values[:20] += 20 * (age - 20)
            sex = ("male", "female")[person % 4 == 0]
            name = f"site-{site:02}" if site else "CALTECH"  # as the first one of them is called
            cells = [f"{site}_{person}", name, f"{age:.2f}", sex, "control", *(f"{value:.1f}" for value in values)]
            lines.append(",".join(cells))
    (root / "abide.csv").write_text("\n".join(lines) + "\n")
    return root


def write_hearts(root: Path, people: int = 40) -> Path:
    """Four files without a header: ``?`` is missing, and a column is so at one hospital."""
    rng = np.random.default_rng(0)
    root.mkdir(parents=True)
    for number, hospital in enumerate(HOSPITALS):
        lines = []
        for person in range(people):
            ill = person % 2
            values = [str(each) for each in (*rng.integers(30, 70, 2), person % 4 + 1, *rng.integers(90, 200, 2))]
            rest = [
                person % 2,
                person % 3,
                120 + 30 * ill,
                ill,
                f"{ill + rng.random():.1f}",
                person % 3 + 1,
                ill,
                3 + 4 * ill,
            ]
            texts = [*values, *map(str, rest)]
            texts[11] = "?" if number == 1 else texts[11]
            lines.append(",".join([*texts, str(ill * (1 + person % 3))]))
        (root / f"processed.{hospital}.data").write_text("\n".join(lines) + "\n")
    return root


def write_patients(root: Path, rows: int = 120) -> Path:
    """``patients.csv``: two visits a patient at three hospitals, gaps, categories, and targets of every kind."""
    rng = np.random.default_rng(1)
    root.mkdir(parents=True)
    lines = ["id,patient,hospital,weight,height,blood,smoker,ill,grade,years,event,cough,fever"]
    for row in range(rows):
        patient = row // 2
        ill = patient // 3 % 2
        weight = "" if row % 11 == 0 else f"{60 + 20 * ill + 10 * rng.random():.1f}"
        blood = ("A", "B", "0", "AB", "NA")[row % 5]
        cells = [f"r{row}", f"p{patient}", "abc"[patient % 3], weight, f"{150 + 40 * rng.random():.1f}", blood, row % 2]
        cells += [("no", "yes")[ill], patient // 3 % 3, f"{1 + 9 * rng.random():.2f}", ill, ill, patient // 6 % 2]
        lines.append(",".join(map(str, cells)))
    (root / "patients.csv").write_text("\n".join(lines) + "\n")
    return root

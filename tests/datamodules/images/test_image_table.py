"""A table of images: every collection refuses the same things in the same words."""

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lit_dist.datamodules import FundusDataModule, ImageNetDataModule, InstitutionDataModule, MammographyDataModule
from lit_dist.utils.errors import InputError

COLUMNS = {"image_column": "file", "patient_column": "person", "site_column": "hospital"}
HEADER = b"file,finding,person,hospital\n"
KINDS: dict[type[InstitutionDataModule], dict[str, Any]] = {
    FundusDataModule: {"grade_column": "finding", "task": "any"},
    ImageNetDataModule: {"label_column": "finding"},
    MammographyDataModule: {"label_column": "finding", "format": "table"},
}
BAD = {
    "nothing": (b"", "cannot be read as a comma-separated"),
    "no rows": (HEADER, "has no rows"),
    "no header": (b"a.png,0,p,h\n", "has no column 'file'; it has a.png, 0, p, h"),
    "a column missing": (b"file,label,person,hospital\na.png,0,p,h\n", "no column 'finding'; it has file, label"),
    "Latin-1": (HEADER + b"\xe9,0,p,h\n", "UTF-8"),
    "a blank image": (HEADER + b"a.png,0,p,h\n,1,q,h\n", "row 3: file is empty"),
    "a blank label": (HEADER + b"a.png,,p,h\n", "row 2: finding is empty"),
    "a blank patient": (HEADER + b"a.png,0,,h\n", "row 2: person is empty"),
    "a blank hospital": (HEADER + b"a.png,0,p,\n", "row 2: hospital is empty"),
    "a row too short": (HEADER + b"a.png,0\n", "row 2: person is empty"),
    "an absolute path": (HEADER + b"/etc/passwd,0,p,h\n", "row 2: '/etc/passwd' leads out of .*images"),
    "dots": (HEADER + b"../../etc/passwd,0,p,h\n", "row 2: '../../etc/passwd' leads out of"),
    "dots within": (HEADER + b"mgh/../../x.png,0,p,h\n", "row 2: 'mgh/../../x.png' leads out of"),
    "a drive": (HEADER + rb"C:\windows\x,0,p,h" + b"\n", r"row 2: 'C:.* leads out of"),
    "dots of another system": (HEADER + rb"..\x,0,p,h" + b"\n", r"row 2: '\.\..* leads out of"),
    "one file twice": (HEADER + b"a.png,0,p,h\nb.png,1,q,h\n./a,1,q,h\n", "row 4 repeats .*a.png' of row 2"),
    "one folder twice": (HEADER + b"c/d.png,0,p,h\nc//d.png,1,q,h\n", "row 3 repeats .*c/d.png' of row 2"),
    "two files": (
        HEADER + b"a.png,0,p,h\n\nb,1,q,h\n",
        "row 4: 'b' may be b.jpg or b.png in .*images; write",
    ),
}


def message(kind: type[InstitutionDataModule], root: Path) -> str:
    with pytest.raises(InputError) as refusal:
        kind(root=root, images=root / "images", labels=root / "labels.csv", **COLUMNS, **KINDS[kind]).read_images()  # type: ignore[call-arg]
    return str(refusal.value)


@pytest.mark.parametrize("name", BAD)
def test_every_collection_refuses_a_table_in_the_same_words(name: str, tmp_path: Path) -> None:
    (tmp_path / "images/c").mkdir(parents=True)
    for file in ("a.png", "b.png", "b.jpg", "c/d.png"):
        Image.new("L", (8, 8)).save(tmp_path / "images" / file)
    content, expected = BAD[name]
    (tmp_path / "labels.csv").write_bytes(content)
    found = {message(kind, tmp_path) for kind in KINDS}
    assert len(found) == 1, found
    assert re.search(rf"labels\.csv.*{expected}", found.pop())

"""Damaged images of all formats: each is named once, with the reason, or left out and listed; none hangs."""

import os
import re
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from damaged import (
    COLLECTIONS,
    Damage,
    bmp,
    cut,
    dicom,
    edit,
    folder,
    jpeg_size,
    link,
    pipe,
    pixels,
    png,
    put,
    zeros,
)
from lit_dist.utils.errors import InputError

pytestmark = [
    pytest.mark.timeout(60, method="thread"),  # a thread that waits for a pipe is not ended by a signal
    # Pillow and pydicom have their say, too, before the file is refused
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
    pytest.mark.filterwarnings("ignore:Corrupt EXIF data"),
    pytest.mark.filterwarnings("ignore:End of file reached before delimiter"),
    pytest.mark.filterwarnings("ignore:Invalid value for VR"),
]

FRACTIONS = np.full((32, 32), np.nan, np.float32)
WIDE = np.full((32, 32), 70_000, np.int32)
BIG = r"60000 x 60000|too large|exceeds|decompression bomb|pixels"


def check_sum(path: Path) -> None:
    """Of a PNG's header."""
    edit(path.read_bytes()[29:33], b"none")(path)


def steep(path: Path) -> None:
    """A slope that is a word, which pydicom does not write."""
    dicom(RescaleSlope="12345678", RescaleIntercept="0")(path)
    edit(b"12345678", b"steeply ")(path)


IMAGES: dict[str, tuple[str, Damage, str]] = {
    # JPEG
    "JPEG: half": ("fundus", cut(0.5), "truncated"),
    "JPEG: a few bytes": ("fundus", cut(0.01), "not an image|truncated"),
    "JPEG: empty": ("ImageNet", put(b""), "the file is empty"),
    "JPEG: zeros": ("ImageNet", zeros, "it is not an image"),
    "JPEG: wrong first bytes": ("Tiny-ImageNet", edit(b"\xff\xd8", b"\xfe\xd8"), "it is not an image"),
    "JPEG: text": ("Tiny-ImageNet", put(b"<html>not found</html>"), "it is not an image"),
    "JPEG: 60,000 x 60,000": ("Tiny-ImageNet", jpeg_size(60_000, 60_000), BIG),
    "JPEG: 11,000 x 11,000": ("fundus", jpeg_size(11_000, 11_000), "11000 x 11000|bomb"),
    "JPEG: 0 x 0": ("fundus", jpeg_size(0, 0), r"\w"),
    "JPEG: one pixel": ("Tiny-ImageNet", pixels(np.zeros((1, 1, 3), np.uint8)), "1 x 1 pixels, too few"),
    "JPEG: one pixel of a retina": ("fundus", pixels(np.zeros((1, 1, 3), np.uint8)), "it shows no retina"),
    "JPEG: tables cut off": ("ImageNet", edit(b"\xff\xda", b"\xff\xd9"), r"\w"),
    # PNG
    "PNG: half": ("table", cut(0.5), "truncated|broken"),
    "PNG: wrong check sum": (
        "DDSM",
        lambda path: edit(path.read_bytes()[29:33], b"\0\0\0\0")(path),
        "broken|CRC|neither",
    ),
    "PNG: wrong first bytes": ("DDSM", edit(b"\x89PNG", b"\x88PNG"), "neither DICOM nor an image"),
    "PNG: zeros": ("DDSM", zeros, "neither DICOM nor an image"),
    "PNG: 60,000 x 60,000": ("table", put(png(60_000, 60_000)), BIG),
    "PNG: 9,000 x 9,500": ("table", put(png(9_000, 9_500)), "said to have 9000 x 9500 pixels, more than 80000000"),
    "PNG: a text that inflates": (
        "table",
        put(png(32, 32, (b"zTXt", b"a\0\0" + zlib.compress(bytes(70_000_000))))),
        r"\w",
    ),
    "PNG: one pixel": ("table", pixels(np.zeros((1, 1), np.uint16)), "it shows nothing"),
    "PNG: black": ("DDSM", pixels(np.zeros((32, 32), np.uint16)), "it shows nothing"),
    "PNG: numbers beyond 16 bits": ("table", pixels(WIDE, format="TIFF"), "do not lie between 0 and 65535"),
    # TIFF and BMP
    "TIFF: not a number": ("table", pixels(FRACTIONS, format="TIFF"), "its greys are fractions"),
    "TIFF: not a colour": ("Tiny-ImageNet", pixels(FRACTIONS, format="TIFF"), "its colours are fractions"),
    "TIFF: half": (
        "table",
        lambda path: (pixels(np.full((32, 32), 7, np.uint8), format="TIFF")(path), cut(0.5)(path)),
        r"\w",
    ),
    "TIFF: only a mark": ("Tiny-ImageNet", put(b"II*\0\xff\xff\xff\x7f"), r"\w"),
    "BMP: 60,000 x 60,000": ("fundus", put(bmp(60_000, 60_000)), BIG),
    # PGM
    "PGM: half": ("mini-MIAS", cut(0.5), "truncated|not enough"),
    "PGM: empty": ("mini-MIAS", put(b""), "the file is empty"),
    "PGM: 60,000 x 60,000": ("mini-MIAS", put(b"P5\n60000 60000\n255\n"), BIG),
    "PGM: beyond all numbers": ("mini-MIAS", put(b"P5\n999999999 999999999\n255\n"), "pixels|neither"),
    "PGM: negative": ("mini-MIAS", put(b"P5\n-5 10\n255\n" + bytes(50)), r"\w"),
    "PGM: no brightest grey": ("mini-MIAS", put(b"P5\n10 10\n0\n" + bytes(100)), r"\w"),
    "PGM: words for numbers": ("mini-MIAS", put(b"P2\n2 2\n255\n1 two 3 4\n"), r"\w"),
    "PGM: one pixel": ("mini-MIAS", put(b"P5\n1 1\n255\n\7"), "it shows nothing"),
    # DICOM
    "DICOM: half": ("CBIS-DDSM", cut(0.5), "it has no|decode"),
    "DICOM: only a mark": ("CBIS-DDSM", put(bytes(128) + b"DICM"), "it has no|cannot be decoded"),
    "DICOM: wrong mark": ("CBIS-DDSM", edit(b"DICM", b"DICN"), "neither DICOM nor an image"),
    "DICOM: zeros": ("CBIS-DDSM", zeros, "neither DICOM nor an image"),
    "DICOM: no height": ("CBIS-DDSM", dicom(Rows=None), "it has no Rows"),
    "DICOM: no bits": ("CBIS-DDSM", dicom(BitsAllocated=None, BitsStored=None), "no BitsAllocated, BitsStored"),
    "DICOM: no meaning of greys": ("CBIS-DDSM", dicom(PhotometricInterpretation=None), "no PhotometricInterpretation"),
    "DICOM: no pixels": ("CBIS-DDSM", dicom(PixelData=None), "it has no pixels"),
    "DICOM: no transfer syntax": ("CBIS-DDSM", dicom(TransferSyntaxUID=None), r"\w"),
    "DICOM: unknown transfer syntax": ("CBIS-DDSM", dicom(TransferSyntaxUID="1.2.3.4"), r"\w"),
    "DICOM: a UID that is none": ("CBIS-DDSM", dicom(TransferSyntaxUID="not.a.uid/../.."), r"\w"),
    "DICOM: 60,000 x 60,000": ("CBIS-DDSM", dicom(Rows=60_000, Columns=60_000), "60000 x 60000 pixels, more than any"),
    "DICOM: 0 x 0": ("CBIS-DDSM", dicom(Rows=0, Columns=0), "0 x 0 pixels"),
    "DICOM: five films": ("CBIS-DDSM", dicom(NumberOfFrames=5), "5 images in one file"),
    "DICOM: colours": ("CBIS-DDSM", dicom(PhotometricInterpretation="RGB", SamplesPerPixel=3), "it is not grey"),
    "DICOM: 13 bits allocated": ("CBIS-DDSM", dicom(BitsAllocated=13), r"\w"),
    "DICOM: slope of no number": (
        "CBIS-DDSM",
        dicom(RescaleSlope="nan", RescaleIntercept="0"),
        "its greys are not all numbers",
    ),
    "DICOM: slope of words": ("CBIS-DDSM", steep, "it cannot be decoded"),
    "DICOM: window of no width": ("CBIS-DDSM", dicom(WindowCenter="1", WindowWidth="0"), r"\w"),
    # what is not a file
    "a folder": ("table", folder, "row 6: there is no image 'films/4.png' in"),
    "a folder of a photograph's name": ("fundus", folder, "row 10: there is no image '4_left'"),
    "a folder of a test photograph's name": ("ImageNet", folder, "there is no image"),
    "a folder of a film's name": ("mini-MIAS", folder, r"Info\.txt, line 7: there is no image 'mdb005'"),
    "a link to nowhere": ("Tiny-ImageNet", link("nowhere.JPEG"), "No such file"),
    "a link to nowhere, in a table": ("table", link("nowhere.png"), "No such file"),
    "a file that is missing": ("CBIS-DDSM", lambda path: path.unlink(), "there is no image"),
}


LISTED = ("fundus", "mini-MIAS", "CBIS-DDSM", "table", "ImageNet")
"""The collections with a list or table that names this image."""


def damaged(name: str, root: Path, damage: Damage) -> Path:
    collection = COLLECTIONS[name]
    collection.copy(root)
    path = root / collection.image
    assert path.is_file()
    damage(path)
    return path


def names(path: Path) -> tuple[str, str, str]:
    """What a message may call the image: its file, its name in a table, or its case."""
    return path.name, path.stem, path.parents[2].name


@pytest.mark.filterwarnings("ignore:.*they are left out")
@pytest.mark.parametrize("name", IMAGES)
def test_a_damaged_image_is_named_with_the_reason_and_can_be_left_out(name: str, tmp_path: Path) -> None:
    collection, damage, reason = IMAGES[name]
    path = damaged(collection, tmp_path / "root", damage)
    make = COLLECTIONS[collection].make
    data = make(tmp_path / "root")
    with pytest.raises(InputError, match=reason) as refusal:
        data.prepare_data()
    message = str(refusal.value)
    assert any(part in message for part in names(path)), message
    assert "on_error=skip" in message
    assert bool(re.search(r", (row|line) \d+\b", message)) == (collection in LISTED)
    assert len(message) < 600
    assert message.count("\n") <= 1
    rest = make(tmp_path / "root", on_error="skip")
    with pytest.warns(UserWarning, match="left out") as warned:
        rest.prepare_data()
    listed = [text for warning in warned if "left out" in (text := str(warning.message))]
    assert [any(part in text for part in names(path)) for text in listed] == [True]
    rest.setup("fit")
    assert len(rest.table) == COLLECTIONS[collection].images - 1
    other = make(tmp_path / "root", on_error="skip")  # as another process of the same run would see it
    other.setup("test")
    assert other.table.equals(rest.table)


TRAPS: dict[str, tuple[Damage, str]] = {
    "a link out of the root": (link("/etc/passwd"), "leads out of"),
    "a link to itself": (lambda path: link(path.name)(path), "not a path of a file|there is no image|symbolic links"),
    "a pipe": (pipe, "neither a file nor a folder|there is no image"),
}


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("collection", COLLECTIONS)
def test_links_out_of_the_root_and_pipes_are_refused(collection: str, trap: str, tmp_path: Path) -> None:
    damage, reason = TRAPS[trap]
    path = damaged(collection, tmp_path / "root", damage)
    with pytest.raises(InputError, match=reason) as refusal:
        COLLECTIONS[collection].make(tmp_path / "root").prepare_data()
    assert any(part in str(refusal.value) for part in names(path))


@contextmanager
def another_user(*writable: Path) -> Iterator[None]:
    """Give the rights of the superuser up for a while, who may read everything."""
    if os.geteuid() != 0:
        yield
        return
    for path in writable:
        path.chmod(0o777)
        for part in path.parents:
            if part.stat().st_uid == 0 and part.is_relative_to(tempfile.gettempdir()):
                part.chmod(part.stat().st_mode | 0o011)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("collection", COLLECTIONS)
@pytest.mark.parametrize("what", ["file", "folder", "root"])
def test_what_may_not_be_read_is_named(collection: str, what: str, tmp_path: Path) -> None:
    path = COLLECTIONS[collection].copy(tmp_path / "root", prepared=False) / COLLECTIONS[collection].image
    (tmp_path / "prepared").mkdir()
    closed = {"file": path, "folder": path.parent, "root": tmp_path / "root"}[what]
    closed.chmod(0)
    refused = pytest.raises(InputError, match=r"[Pp]ermission denied|there is no|has none of CBIS-DDSM's tables")
    with another_user(tmp_path / "prepared"), refused as refusal:
        COLLECTIONS[collection].make(tmp_path / "root").prepare_data()
    closed.chmod(0o700)
    assert any(part in str(refusal.value) for part in (closed.name, path.stem))

"""Small collections to damage, and ways to damage a file."""

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from coloured_photographs import write as write_photographs
from contract import once
from fake_fundus import write_fundus
from fake_mammograms import write_cbis_ddsm, write_ddsm, write_mini_mias, write_table
from lit_dist.datamodules import FundusDataModule, ImageNetDataModule, InstitutionDataModule, MammographyDataModule

Damage = Callable[[Path], Any]

COMMON: dict[str, Any] = {"sites": 1, "size": 16, "allow_one_class": True}
TABLE = {"image_column": "file", "label_column": "finding", "patient_column": "person", "site_column": "hospital"}


@dataclass(frozen=True, eq=False)
class Collection:
    """A collection as its tests write it.

    Attributes:
        write: Writes it.
        kind: Reads it.
        image: One of its images.
        settings: What it is read with.
    """

    write: Callable[[Path], Path]
    kind: Callable[..., InstitutionDataModule]
    image: str
    settings: dict[str, Any]

    def copy(self, root: Path, prepared: bool = True) -> Path:
        """Copy the collection, which is written and prepared once a process, with its cache or without."""
        whole = _whole(self)
        shutil.copytree(whole, root)
        if prepared:
            shutil.copytree(whole.parent / "prepared", root.parent / "prepared")
        return root

    @cached_property
    def images(self) -> int:
        """The number of its images that are used."""
        return len(self.make(_whole(self)).table)

    def make(self, root: Path, **settings: Any) -> InstitutionDataModule:
        """The datamodule, with a cache beside the root."""
        given = {**COMMON, "cache_dir": root.parent / "prepared", **self.settings, **settings}
        return self.kind(root, **given)


@cache
def _whole(collection: Collection) -> Path:
    root = once(collection.write)
    collection.make(root).prepare_data()
    return root


COLLECTIONS = {
    "fundus": Collection(lambda root: write_fundus(root, 16), FundusDataModule, "train/4_left.jpeg", {"radius": 30}),
    "mini-MIAS": Collection(lambda root: write_mini_mias(root, 8), MammographyDataModule, "mdb005.pgm", {}),
    "DDSM": Collection(
        lambda root: write_ddsm(root, 12),
        MammographyDataModule,
        "normal_02/case0004/B_0004_1.LEFT_CC.png",
        {"sites": 3, "val_fraction": 0.0, "test_fraction": 0.0},
    ),
    "CBIS-DDSM": Collection(
        lambda root: write_cbis_ddsm(root, 6),
        MammographyDataModule,
        "CBIS-DDSM/Mass-Training_P_00002_LEFT_CC/1.3.6.1.4.2.4.1/1.3.6.1.4.2.4.2/1-1.dcm",
        {},
    ),
    "table": Collection(
        lambda root: write_table(root, 24), MammographyDataModule, "films/4.png", {**TABLE, "sites": 3}
    ),
    "Tiny-ImageNet": Collection(
        lambda root: write_photographs(root, "tiny", 6, 2), ImageNetDataModule, "train/cat/images/cat_3.JPEG", {}
    ),
    "ImageNet": Collection(
        lambda root: write_photographs(root, "flat", 6, 2), ImageNetDataModule, "val/ILSVRC2012_val_00000002.JPEG", {}
    ),
}


# -- ways to damage a file ---------------------------------------------------------------------------------------------


def put(content: bytes) -> Damage:
    """Replace the content."""
    return lambda path: path.write_bytes(content)


def cut(share: float) -> Damage:
    """Keep the first part."""
    return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def zeros(path: Path) -> None:
    """As many zeros."""
    path.write_bytes(bytes(path.stat().st_size))


def edit(old: str | bytes, new: str | bytes, count: int = 1) -> Damage:
    """Replace a part, which must be there."""
    before, after = (part.encode() if isinstance(part, str) else part for part in (old, new))

    def damage(path: Path) -> None:
        content = path.read_bytes()
        assert before in content, f"{path} has no {before!r}"
        path.write_bytes(content.replace(before, after, count))

    return damage


def append(content: str | bytes) -> Damage:
    """Add to the end."""
    more = content.encode() if isinstance(content, str) else content
    return lambda path: path.write_bytes(path.read_bytes() + more)


def folder(path: Path) -> None:
    """A folder of that name."""
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    """A pipe, which a reader would wait for without end."""
    path.unlink()
    os.mkfifo(path)


def link(target: str) -> Damage:
    """A link."""

    def damage(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return damage


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG that says how large it is, and has next to nothing in it."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    middle = b"".join(chunk(*part) for part in chunks)
    return b"\x89PNG\r\n\x1a\n" + header + middle + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def bmp(width: int, height: int) -> bytes:
    """A BMP's header."""
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)


def jpeg_size(width: int, height: int) -> Damage:
    """Let a JPEG say that it has another size."""

    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        place = content.index(b"\xff\xc0") + 5
        content[place : place + 4] = struct.pack(">HH", height, width)
        path.write_bytes(content)

    return damage


def pixels(values: Any, **settings: Any) -> Damage:
    """Other pixels, in the format that the file's suffix or the settings say."""
    from PIL import Image

    return lambda path: Image.fromarray(values).save(path, **settings)


def dicom(**tags: Any) -> Damage:
    """Other tags; None removes one, and so does it with tags of the file's beginning."""

    def damage(path: Path) -> None:
        from pydicom import config, dcmread

        dataset = dcmread(path)
        before, config.settings.writing_validation_mode = config.settings.writing_validation_mode, config.IGNORE
        reading, config.settings.reading_validation_mode = config.settings.reading_validation_mode, config.IGNORE
        try:
            for name, value in tags.items():
                where = dataset.file_meta if name in dataset.file_meta else dataset
                if value is None:
                    delattr(where, name)
                else:
                    setattr(where, name, value)
            dataset.save_as(path, enforce_file_format=False)
        finally:
            config.settings.writing_validation_mode = before
            config.settings.reading_validation_mode = reading

    return damage

"""Which photographs a collection has, and of which classes, in each of the layouts that ImageNetDataModule reads.

Each function gives a table with one row an image: ``image`` (the file, relative to the index's root), ``class``,
``origin`` (what to begin a message about it with) and ``there`` (whether the file is); with a table of labels also
``patient`` and ``site``, if it has them.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import pandas as pd

from lit_dist.datamodules.images.data_root import check_inside, check_name, is_foreign_folder, unreadable
from lit_dist.datamodules.images.image_index import ImageIndex
from lit_dist.datamodules.images.image_table import find_files
from lit_dist.datamodules.images.imagenet_devkit import TRUTH, find_devkit, image_name, image_number, read_devkit
from lit_dist.datamodules.images.named_files import NamedFiles
from lit_dist.datamodules.label_table import read_lines
from lit_dist.utils.errors import InputError

ANNOTATIONS = "val_annotations.txt"
Folders = Literal["class", "site/class", "class/site", "class/patient", "site/class/patient", "class/site/patient"]
Chosen = Mapping[str, Sequence[str]]
Row = tuple[str, str, str, bool]


def class_folders(folder: Path) -> list[str]:
    """The names of a folder's folders, sorted.

    Raises:
        InputError: If the folder is missing, has fewer than two, or one is a link that leads out of it.
    """
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if entry.is_dir() and not is_foreign_folder(entry.name)]
    except OSError as error:
        raise unreadable(folder, error) from None
    for entry in found:
        check_name(entry.name, folder)
        if entry.is_symlink():
            check_inside(Path(entry.path), folder, f"the link {entry.path}")
    if len(found) < 2:
        raise InputError(f"{folder} has {len(found)} folders; it needs one a class, and two classes at least")
    return sorted(entry.name for entry in found)


def shared_folders(folder: Path, index: ImageIndex, names: Sequence[str]) -> list[str]:
    """The names that folders of several of a folder's folders have, where each has some and no image of its own."""
    place = os.path.relpath(folder, index.root)
    paths = [os.path.normpath(os.path.join(place, name)) for name in names]
    within = [[] if index.own_files(path) else index.own_folders(path) for path in paths]
    counts = Counter(name for found in within for name in found)
    shared = sorted(name for name, count in counts.items() if count > 1)
    return shared if all(set(found) & set(shared) for found in within) else []


def read_site_folders(index: ImageIndex, folder: str, chosen: Chosen, order: Folders) -> pd.DataFrame:
    """Images in one folder a site with one a class in it, or the other way round.

    Args:
        index: Of the collection's root.
        folder: Where the outer folders are, relative to the root.
        chosen: The folders that each class is made of.
        order: What the folders are, the outer ones first.

    Raises:
        InputError: If an image lies beside the inner folders, or a class has none.
    """
    class_of = {part: name for name, parts in chosen.items() for part in parts}
    rows = []
    for outer in class_folders(index.root / folder):
        place = f"{folder}/{outer}" if folder else outer
        stray = index.own_files(place)
        if stray:
            raise InputError(f"{index.root / place} holds {stray[0]}, beside the folders that folders={order} needs")
        for inner in index.own_folders(place):
            site, part = (outer, inner) if order.startswith("site") else (inner, outer)
            if part in class_of:
                rows += [(image, class_of[part], site) for image in index.files_or_none(f"{place}/{inner}")]
    table = pd.DataFrame(rows, columns=["image", "class", "site"])
    empty = sorted(set(chosen) - set(table["class"]))
    if empty:
        raise InputError(f"{index.root / folder} has no image of the class {empty[0]!r} at any site")
    return table.assign(origin="", there=True).sort_values("site", kind="stable", ignore_index=True)


def with_patients(table: pd.DataFrame, root: Path, folder: str, order: Folders) -> pd.DataFrame:
    """Images with the patients whose folders they lie in; the same name at two sites is two patients.

    Args:
        table: The images of a part of the collection, by their paths from its root.
        root: The collection's root.
        folder: Where the outer folders are, relative to the root.
        order: The folders, of which the last are the patients.

    Raises:
        InputError: If an image lies beside the patients' folders.
    """
    levels = order.count("/")
    parts = [image.removeprefix(f"{folder}/" if folder else "").split("/") for image in table["image"]]
    beside = next((image for image, part in zip(table["image"], parts, strict=True) if len(part) < levels + 2), None)
    if beside is not None:
        raise InputError(f"{root / beside} lies beside the folders of patients that folders={order} needs")
    patients = pd.Series([part[levels] for part in parts], table.index)
    return table.assign(patient=table["site"] + "/" + patients if "site" in table else patients)


def read_folders(index: ImageIndex, folder: str, chosen: Chosen) -> pd.DataFrame:
    """Images in one folder a class; one that is missing or has no images is an ``InputError``.

    Args:
        index: Of the collection's root.
        folder: Where the classes' folders are, relative to the root.
        chosen: The folders that each class is made of.
    """
    images: list[str] = []
    classes: list[str] = []
    for name, parts in chosen.items():
        for part in parts:
            images += index.files(f"{folder}/{part}" if folder else part)
            classes += [name] * (len(images) - len(classes))
    return pd.DataFrame({"image": images, "class": classes, "origin": "", "there": True})


def read_val(index: ImageIndex, chosen: Chosen) -> pd.DataFrame:
    """The published test set in ``val``: in one folder a class, or as Tiny-ImageNet or ImageNet has it.

    Raises:
        InputError: If it is not one of these, or its list of classes is not as it should be (the line is named).
    """
    folder = index.root / "val"
    class_of = {part: name for name, parts in chosen.items() for part in parts}
    if os.path.isfile(folder / ANNOTATIONS):
        rows = list(_annotated(index, folder / ANNOTATIONS, class_of))
    elif index.own_files("val"):
        rows = list(_numbered(index, class_of))
    else:
        return read_folders(index, "val", chosen)
    return pd.DataFrame(rows, columns=["image", "class", "origin", "there"])


def find_labelled(table: pd.DataFrame, path: Path, index: ImageIndex, chosen: Chosen) -> pd.DataFrame:
    """The rows of the chosen classes, with the files.

    Args:
        table: What ``read_image_table`` gave.
        path: Where that was read.
        index: Of the folder with the images.
        chosen: The values in the table that each class is made of.
    """
    class_of = {part: name for name, parts in chosen.items() for part in parts}
    table = table[table["class"].isin(list(class_of))]
    files = find_files(table, path, NamedFiles(index.files(), index.root).find)
    images = [file or name for file, name in zip(files, table["image"].tolist(), strict=True)]
    found = table.assign(image=images, there=[file is not None for file in files])
    return found.assign(**{"class": table["class"].map(class_of)}).reset_index(drop=True)


def sorted_classes(values: "pd.Series[str]") -> list[str]:
    """The different values, in the order of their numbers if all are numbers."""
    found = sorted(values.unique())
    return sorted(found, key=int) if all(name.isascii() and name.isdecimal() for name in found) else found


def _annotated(index: ImageIndex, path: Path, class_of: Mapping[str, str]) -> Iterator[Row]:
    files, seen = set(index.files("val")), set()
    for number, line in enumerate(read_lines(path), start=1):
        image, name, *_ = [*line.split("\t"), ""]
        origin = f"{path}, line {number}"
        if not name or os.path.basename(image) != image or not image.lower().endswith(index.suffixes) or "\0" in image:
            raise InputError(f"{origin}: {line[:60]!r} is not the name of an image in val/images, a tab and its class")
        if image in seen:
            raise InputError(f"{origin}: the image {image!r} stands twice")
        seen.add(image)
        if name in class_of:
            file = f"val/images/{image}"
            yield file, class_of[name], origin, file in files


def _numbered(index: ImageIndex, class_of: Mapping[str, str]) -> Iterator[Row]:
    devkit = find_devkit(index.root)
    if devkit is None:
        raise InputError(
            f"{index.root / 'val'} holds images that are not in folders of classes, and {index.root} has no {TRUTH} to"
            " say which they are of; unpack ILSVRC2012_devkit_t12.tar.gz there"
        )
    classes, files = read_devkit(devkit), set(index.files("val"))
    for file in sorted(files):
        if not 1 <= (image_number(os.path.basename(file)) or 0) <= len(classes):
            raise InputError(f"{index.root / file} is not one of the {len(classes)} images in {devkit / TRUTH}")
    for number, wnid in enumerate(classes, start=1):
        if wnid in class_of:
            file = f"val/{image_name(number)}"
            yield file, class_of[wnid], f"{devkit / TRUTH}, line {number}", file in files

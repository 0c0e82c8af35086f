"""ImageNetDataModule: photographs in one folder a class, as ImageNet and Tiny-ImageNet have them, or with a table."""

import os
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from lightning.pytorch.utilities import rank_zero_warn
from typing_extensions import override

from lit_dist.datamodules.images.cached import CentreSquares
from lit_dist.datamodules.images.class_choice import Classes, choose_classes
from lit_dist.datamodules.images.data_root import check_inside
from lit_dist.datamodules.images.decoding import SUFFIXES
from lit_dist.datamodules.images.folder_layouts import (
    Folders,
    class_folders,
    find_labelled,
    read_folders,
    read_site_folders,
    read_val,
    shared_folders,
    sorted_classes,
    with_patients,
)
from lit_dist.datamodules.images.image_index import ImageFile, ImageIndex
from lit_dist.datamodules.images.image_table import read_image_table
from lit_dist.datamodules.site_table import shown_names
from lit_dist.utils.errors import InputError
from lit_dist.utils.setting_checks import check_choice


class ImageNetDataModule(CentreSquares):
    """Photographs of things, sorted by class: ImageNet, Tiny-ImageNet, any folder or table of one's own.

    Expects one folder a class, and a test set if there is one::

        root/
          train/<class>/...                 the images, also in folders below, such as images/
          val/<class>/...                   the test set; or, as ImageNet has it,
          val/ILSVRC2012_val_*.JPEG, ILSVRC2012_devkit_t12/; or, as Tiny-ImageNet has it,
          val/images/..., val/val_annotations.txt

    Sites may have a folder each, too (``folders``). Where there is no ``train``, the folders are ``root``'s own, or
    ``root/labels.csv`` says the class of each image in ``root/images`` or ``root``. Without ``val``, the test is a part
    of the images. Sites are simulated, and each image is a patient of its own, unless folders or a table say otherwise.
    Images are cut to a square around their centre, resized, and kept in a cache, as is a list of the files: a folder is
    read again only after files in it came or went.

    The data: Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015, for non-commercial
    research; https://www.image-net.org. Tiny-ImageNet is a part of it at 64 by 64 pixels.

    Args:
        root: The folder of the collection.
        classes: The classes to take; all by default. A number takes the first ones in the order of their names, which
            is torchvision's. A list has names of folders, such as ``n01440764``, numbers in that order from 0, and
            ranges of numbers, such as ``"151-268"``. A mapping joins classes under new names:
            ``{dog: ["151-268"], cat: ["281-285"]}``. Labels are in the order given.
        images_per_class: The most images of a class to take, by chance from ``split_seed``; all by default. More
            images of the same seed contain fewer ones. The test set in ``val`` stays whole.
        labels: A table of images and classes.
        images: The folder of the table's images.
        image_column: The table's column with the files, relative to ``images``, with or without suffix.
        label_column: The table's column with the classes.
        patient_column: The table's column with the patients; without it, each image is one.
        site_column: The table's column with the institutions; without it, sites are simulated.
        folders: What the folders in ``train`` or ``root`` are: ``"class"``, the classes; ``"site/class"``, real sites
            with the classes in them; or ``"class/site"``; each with ``"/patient"`` behind it where those have a
            folder a patient. By default they are the classes, unless several have folders of the same names, which may
            be either and is refused.
        **kwargs: Further arguments of ``CachedDataModule`` and ``ImageDataModule``.

    Raises:
        InputError: If a folder, table or image is not as it should be.
    """

    def __init__(
        self,
        root: str | Path,
        classes: Classes = None,
        images_per_class: int | None = None,
        labels: str | Path | None = None,
        images: str | Path | None = None,
        image_column: str = "image",
        label_column: str = "label",
        patient_column: str | None = None,
        site_column: str | None = None,
        folders: Folders | None = None,
        size: int = 64,
        **kwargs: Any,
    ) -> None:
        super().__init__(size, **kwargs)
        if images_per_class is not None and images_per_class < 1:
            raise InputError(f"images_per_class={images_per_class} is not a positive number")
        self.root = Path(root)
        self.train = "train" if os.path.isdir(self.root / "train") else ""
        self.images_per_class = images_per_class
        if folders is not None:
            check_choice(get_args(Folders), folders=folders)
        self.folders = folders
        self.labels = _labels(self.root, labels)
        self.images = self.root
        if self.labels is not None:
            own = self.root / "images"
            self.images = Path(images) if images else own if os.path.isdir(own) else self.root
            if not images:
                check_inside(self.images, self.root, f"the folder {self.images}")
        self._columns = {"image": image_column, "class": label_column, "patient": patient_column, "site": site_column}
        self._classes = classes
        self.chosen: dict[str, list[str]] = {}
        if os.path.lexists(self.labels or self.root):  # where a trained model is used, the collection need not be
            self._choose()

    def _choose(self) -> None:
        if self.labels is not None:
            self._labelled = read_image_table(self.labels, self.images, self._columns)
            known = sorted_classes(self._labelled["class"])
        else:
            known = self._known_folders()
        self.chosen = choose_classes(known, self._classes, str(self.labels or self.root / self.train))
        self.class_names = list(self.chosen)

    def _known_folders(self) -> list[str]:
        """The names of the classes' folders."""
        folder = self.root / self.train
        outer = class_folders(folder)
        if not (self.folders or "").startswith("site/class"):
            return outer
        index = ImageIndex(self.root, SUFFIXES, self.cache_dir)
        inner = {name for site in outer for name in index.own_folders(os.path.join(self.train, site))}
        index.save()
        if len(inner) < 2:
            raise InputError(f"the folders in {folder} hold {len(inner)} folders; folders={self.folders} needs two")
        return sorted(inner)

    def _check_folders(self, index: ImageIndex) -> None:
        """Refuse to take hospitals for classes, and say what is not read."""
        folder = self.root / self.train
        outer = class_folders(folder)
        shared = shared_folders(folder, index, outer) if self.folders is None else []
        if len(shared) > 1:
            raise InputError(
                f"the folders {shown_names(outer)} in {folder} have folders of the same names in them, such as"
                f" {shown_names(shared)}. If these are classes and the first are hospitals, set folders=site/class; the"
                " other way round, class/site; if the first are classes and the rest does not matter, class"
            )
        test = self.root / "test"
        if self.train and os.path.isdir(test) and any(os.path.isdir(test / name) for name in outer):
            what = "val" if os.path.isdir(self.root / "val") else f"a part of {self.train}"
            rank_zero_warn(f"{test} is not used: the test set is {what}; name the folder val to test on it")
        others = [name for name in index.own_folders() if name not in ("train", "val", "test")] if self.train else []
        unused = [name for name in others if index.holds_images(name)]
        if unused:
            rank_zero_warn(
                f"{self.root} has images in {shown_names(unused)} that are not used: images are read from train, and"
                " those to test on from val"
            )

    # -- the table ---------------------------------------------------------------------------------------------------

    @override
    def read_images(self) -> pd.DataFrame:
        if not self.chosen:
            self._choose()
        index = ImageIndex(self.images, SUFFIXES, self.cache_dir)
        if self.labels is not None:
            taken = [part for parts in self.chosen.values() for part in parts]
            self.leave_out(self._labelled[~self._labelled["class"].isin(taken)], "of other classes (classes)")
            table = self._some(find_labelled(self._labelled, self.labels, index, self.chosen))
            self.say_patients("patient" in table)
        else:
            self._check_folders(index)
            table = self._some(self._read(index, self.train))
            advice = f"give each a folder (--data.folders {self.folders or 'class'}/patient), or use a table"
            self.say_patients("patient" in table, f"{advice} with --data.patient_column")
            if self.train and os.path.isdir(self.root / "val"):
                tests = self._read(index, "val")
                table = pd.concat([table.assign(held_out=False), tests.assign(held_out=True)], ignore_index=True)
        index.save()
        index.report()
        return self._with_files(table)

    def _read(self, index: ImageIndex, folder: str) -> pd.DataFrame:
        order = self.folders or "class"
        if "site" in order:
            table = read_site_folders(index, folder, self.chosen, order)
        else:
            table = read_val(index, self.chosen) if folder == "val" else read_folders(index, folder, self.chosen)
        return with_patients(table, index.root, folder, order) if order.endswith("/patient") else table

    def _some(self, table: pd.DataFrame) -> pd.DataFrame:
        """As many images of each class as are asked for; which of a class does not depend on the other classes."""
        if self.images_per_class is None:
            return table
        rows = [
            of_class[np.random.default_rng([self.split_seed, 2]).permutation(len(of_class))[: self.images_per_class]]
            for of_class in table.groupby("class", sort=False).indices.values()
        ]
        taken = np.sort(np.concatenate(rows))
        self.leave_out(table[~table.index.isin(taken)], f"beyond images_per_class={self.images_per_class}")
        return table.iloc[taken].reset_index(drop=True)

    def _with_files(self, table: pd.DataFrame) -> pd.DataFrame:
        folder = f"{self.images}/"
        named = zip(table["image"].tolist(), table["there"].tolist(), strict=True)
        files = [ImageFile(folder + image) if there else None for image, there in named]
        label_of = {name: label for label, name in enumerate(self.class_names)}
        table = table.assign(
            path=pd.Series(files, table.index, object),
            patient=table.get("patient", table["image"]),
            label=table["class"].map(label_of).astype("int64"),
        )
        return self.without_missing(table, self.images).drop(columns="there").reset_index(drop=True)


def _labels(root: Path, labels: str | Path | None) -> Path | None:
    """The table to read: the one given, or the collection's own if it has no folder for training."""
    if labels is not None:
        return Path(labels)
    own = root / "labels.csv"
    return own if os.path.isfile(own) and not os.path.isdir(root / "train") else None

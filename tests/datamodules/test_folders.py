import io
import shutil
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from coloured_photographs import COLOURS, draw, write
from contract import DataModuleContract, Make, once, pixels_of
from lit_dist.cli.main import main
from lit_dist.datamodules import Augmentation, CountPartition, ImageNetDataModule
from lit_dist.datamodules.images.decoding import decode
from lit_dist.utils.errors import InputError
from real_data import real_folder


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return shutil.copytree(once(write), tmp_path / "tiny")


def make(root: Path, **settings: Any) -> ImageNetDataModule:
    defaults = {"sites": 2, "size": 16, "cache_dir": root.parent / "prepared"}
    return ImageNetDataModule(root, **{**defaults, **settings})


LAYOUTS = {"tiny": write, "plain": partial(write, layout="plain", train=40)}
"""One whose test is published, and one whose test is a part of the images."""


class TestPhotographs(DataModuleContract):
    @pytest.fixture(params=LAYOUTS)
    def make(self, request: pytest.FixtureRequest) -> Make:
        own = {"sites": 4, "size": 32, "augmentation": Augmentation()}
        return lambda **settings: make(once(LAYOUTS[request.param]), **{**own, **settings})


# -- layouts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["tiny", "official", "flat"])
def test_the_test_is_val_and_is_dealt_out_equally(layout: str, tmp_path: Path) -> None:
    table = make(write(tmp_path / layout, layout), val_fraction=0.25).table
    assert table["image"].str.startswith("val/").eq(table["split"] == "test").all()
    assert table.groupby(["site", "split"]).size().to_dict() == {
        (site, split): number
        for site in ("site-1", "site-2")
        for split, number in (("train", 27), ("val", 9), ("test", 9))
    }
    tests = table[table["split"] == "test"]
    assert tests.groupby(["site", "label"]).size().tolist() == [3] * 6


@pytest.mark.parametrize("layout", ["tiny", "official", "flat", "plain", "no val"])
def test_each_image_has_the_class_whose_colour_it_has(layout: str, tmp_path: Path) -> None:
    data = make(write(tmp_path / layout, layout))
    assert data.class_names == ["cat", "dog", "owl"]
    coloured = 0
    for image, label, name in zip(pixels_of(data), data.table["label"], data.table["image"], strict=True):
        mean = image.mean(axis=(0, 1))
        if np.ptp(mean) > 15:  # grey ones have none
            assert int(mean.argmax()) == label, name
            coloured += 1
    assert coloured > 0.75 * len(data.table)


@pytest.mark.parametrize("layout", ["plain", "no val"])
def test_without_val_the_test_is_a_part_of_the_images(layout: str, tmp_path: Path) -> None:
    data = make(write(tmp_path / layout, layout), val_fraction=0.25, test_fraction=0.25)
    assert data.table["split"].value_counts().to_dict() == {"train": 36, "val": 18, "test": 18}
    assert (data.table["patient"] == data.table["image"]).all()


def test_a_partition_deals_out_the_training_images_alone(tiny: Path) -> None:
    table = make(tiny, partition=CountPartition([[12, 2, 2], [4, 8, 8]])).table
    own = table[table["split"] != "test"]
    assert own.groupby(["site", "label"]).size().tolist() == [12, 2, 2, 4, 8, 8]
    assert table[table["split"] == "test"].groupby("site").size().tolist() == [9, 9]


def test_files_that_are_no_images_are_passed_over(tiny: Path) -> None:
    before = make(tiny).table["image"].tolist()
    (tiny / "train" / "cat" / "cat_boxes.txt").write_text("cat_0.JPEG\t0\t0\t62\t63\n")
    (tiny / "train" / "words.txt").write_text("cat")
    assert make(tiny).table["image"].tolist() == before


# -- pixels ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(16, 16), (16, 40), (48, 16), (8, 20)])
def test_images_are_cut_to_the_square_around_their_centre(shape: tuple[int, int], tmp_path: Path) -> None:
    height, width = shape
    side, top, left = min(shape), (height - min(shape)) // 2, (width - min(shape)) // 2
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[top : top + side, left : left + side] = (250, 120, 30)
    for name in ("a", "b"):
        for number in range(6):
            (tmp_path / "root" / name).mkdir(parents=True, exist_ok=True)
            pixels[0, 0] = number + 6 * (name == "b")  # no two files the same
            Image.fromarray(pixels).save(tmp_path / "root" / name / f"{number}.png")
    images = pixels_of(make(tmp_path / "root", sites=1))
    assert (images[:, 3:, 3:] == (250, 120, 30)).all()
    assert images.shape[1:] == (16, 16, 3)


def test_grey_and_cmyk_images_become_rgb(tiny: Path) -> None:
    data = make(tiny)
    pixels = dict(zip(data.table["image"], pixels_of(data).astype(int), strict=True))
    modes = {}
    for name in data.table["image"]:
        with Image.open(tiny / name) as image:
            modes[name] = image.mode
    assert list(modes.values()).count("CMYK") == 3
    assert list(modes.values()).count("L") > 3
    for name, mode in modes.items():
        found = pixels[name]
        if mode == "L":
            assert np.ptp(found, axis=-1).max() == 0
        elif mode == "CMYK":
            assert np.abs(found.mean(axis=(0, 1)) - COLOURS[Path(name).name[:3]]).max() < 15


def test_links_within_the_root_are_followed_and_loops_of_folders_are_not(tiny: Path) -> None:
    before = make(tiny).table
    moved = tiny / ".elsewhere" / "cat_0.JPEG"
    moved.parent.mkdir()
    shutil.move(tiny / "train/cat/images/cat_0.JPEG", moved)
    (tiny / "train/cat/images/cat_0.JPEG").symlink_to(moved)
    (tiny / "train/cat/images/loop").symlink_to(tiny / "train")
    data = make(tiny)
    data.prepare_data()
    assert data.table["image"].tolist() == before["image"].tolist()
    assert data.table["label"].tolist() == before["label"].tolist()


# -- real images -------------------------------------------------------------------------------------------------------


def test_ten_classes_of_tiny_imagenet(tmp_path: Path) -> None:
    data = ImageNetDataModule(real_folder("tiny_imagenet_10x"), cache_dir=tmp_path / "prepared", val_fraction=0.2)
    assert data.num_classes == 10
    table = data.table
    assert len(table) == 5500
    assert (table["split"] == "test").sum() == 500
    counts = table.groupby(["site", "split"]).size().unstack()
    assert counts[["train", "val", "test"]].to_numpy().tolist() == [[1000, 250, 125]] * 4
    assert (table.groupby("label").size() == 550).all()
    few = ImageNetDataModule(data.root, 2, cache_dir=tmp_path / "prepared", sites=2)
    few.prepare_data()
    few.setup("fit")
    assert few.train_dataloader()["site-1"].dataset[0][0].shape == (3, 64, 64)  # type: ignore[index]


@pytest.mark.slow
def test_a_photograph_of_each_of_a_thousand_classes_joined_into_two(tmp_path: Path) -> None:
    """Through the command line, as the configuration says; 398 of ImageNet's classes are animals."""
    root = real_folder("imagenet_sample1000_256")
    words = ["fit", "--config", "configs/imagenet/cyclical.yaml", f"--data.root={root}", "--data.size=32"]
    words += ["--data.image_column=file", "--data.label_column=wnid", f"--data.cache_dir={tmp_path / 'prepared'}"]
    words += [
        "--trainer.max_epochs=4",
        "--trainer.limit_train_batches=2",
        "--trainer.enable_progress_bar=false",
        "--trainer.accelerator=cpu",
    ]
    main([*words, "--data.classes={animal: [0-397], thing: [398-999]}", "--model.num_classes=2"])
    splits = pd.read_csv("runs/imagenet/cyclical/version_0/splits.csv")
    wnids = pd.read_csv(root / "labels.csv").set_index("file")["class_index"]
    assert len(splits) == 1000
    assert ((splits["image"].map(wnids) >= 398) == (splits["label"] == 1)).all()
    apart = make(root, image_column="file", label_column="wnid", size=32, cache_dir=tmp_path / "prepared")
    apart.prepare_data()
    with pytest.warns(UserWarning, match=r"of 1000 classes have no training record"):
        apart.setup("fit")


def test_real_grey_photographs_are_grey_and_all_others_are_as_opencv_decodes_them() -> None:
    modes: Counter[str] = Counter()
    for folder in ("imagenet_sample1000_256/images", "tiny_imagenet_10x"):
        for path in sorted(real_folder(folder.split("/")[0]).joinpath(folder.partition("/")[2]).rglob("*.JPEG")):
            content = path.read_bytes()
            with Image.open(io.BytesIO(content)) as image:
                mode = image.mode
            modes[mode] += 1
            if mode != "RGB" or modes[mode] % 50 == 0:
                pixels = decode(content)
                expected = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
                assert np.abs(pixels.astype(int) - expected).mean() < 0.5, path
                assert mode == "RGB" or np.ptp(pixels, axis=-1).max() == 0, path
    assert modes == {"RGB": 6465, "L": 35}


@pytest.mark.parametrize("kind", ["CMYK", "YCCK", "CMYK without Adobe's marker"])
def test_inks_are_as_opencv_decodes_them(kind: str, tmp_path: Path) -> None:
    draw(tmp_path / "1.jpg", COLOURS["owl"], 2)
    content = bytearray((tmp_path / "1.jpg").read_bytes())
    marker = content.index(b"\xff\xee\x00\x0eAdobe")
    if kind == "YCCK":
        content[marker + 15] = 2  # the same numbers, but not of inks
    elif kind != "CMYK":
        del content[marker : marker + 16]
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode == "CMYK"
    expected = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(decode(bytes(content)).astype(int) - expected).max() <= 2
    assert kind == "YCCK" or np.abs(expected.mean(axis=(0, 1)) - COLOURS["owl"]).max() < 5


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no folder .*nowhere"):
        _ = make(tmp_path / "nowhere").table


def test_one_class_is_refused(tmp_path: Path) -> None:
    draw(tmp_path / "root" / "cat" / "1.jpg", (9, 9, 9), 1)
    with pytest.raises(InputError, match="has 1 folders; it needs one a class, and two classes at least"):
        make(tmp_path / "root")


def test_a_class_without_images_is_named(tiny: Path) -> None:
    (tiny / "train" / "emu").mkdir()
    with pytest.raises(InputError, match=r"train/emu holds no images"):
        _ = make(tiny).table


def test_a_size_that_is_too_small_is_refused(tiny: Path) -> None:
    with pytest.raises(InputError, match="size=4 does not lie between 8 and"):
        make(tiny, size=4)

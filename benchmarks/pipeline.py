"""What images cost before a network sees them: preparing, cached epochs, start-up, and memory.

    python benchmarks/pipeline.py prepare --fundus FOLDER --mias FOLDER --film FILE
    python benchmarks/pipeline.py epoch --fundus FOLDER --photographs FOLDER
    python benchmarks/pipeline.py start_up --rows 1000 100000 1000000
    python benchmarks/pipeline.py memory --gigabytes 4 --cgroup /sys/fs/cgroup/memory/small

Ways to do the same are timed in turns; the medians of the ratios are shown, with the least and the most. ``--fundus``
is a folder as Kaggle's, ``--mias`` one of mini-MIAS, ``--film`` a DICOM file of a film, ``--photographs`` one folder a
class below ``train``.
``--cgroup`` is a control group with a limit on its memory that was made beforehand; the run joins it.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from pydicom import dcmread
from pydicom.uid import generate_uid
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

import harness
from lit_dist.datamodules import Augmentation, FundusDataModule, ImageNetDataModule, MammographyDataModule
from lit_dist.datamodules.images.cached import CachedDataModule
from lit_dist.datamodules.images.normalisation import IMAGENET_MEAN, IMAGENET_STD

BATCH = 32


def in_turns(ways: Mapping[str, Callable[[], object]], base: str, repeats: int) -> None:
    """Time ways to do the same, and print how much faster each is than one of them."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - began)
    for name, own in times.items():
        ratios = [first / second for first, second in zip(times[base], own, strict=True)]
        print(f"  {name}: {harness.spread(ratios)} times as fast as {base}", flush=True)


# -- preparing ---------------------------------------------------------------------------------------------------------


def prepare(options: argparse.Namespace) -> None:
    """A cache built by one thread and by two, against a plain loop that keeps the prepared images in memory."""
    mias = options.mias / "images512" if (options.mias / "images512").is_dir() else options.mias
    collections: dict[str, CachedDataModule] = {
        "fundus photographs": FundusDataModule(options.fundus),
        "mammograms": MammographyDataModule(options.mias, images=mias, task="density"),
    }
    with tempfile.TemporaryDirectory() as folder:
        collections["mammograms as DICOM"] = copies(options.film, Path(folder), 16)
        time_preparing(collections, options)


def copies(film: Path, folder: Path, count: int) -> MammographyDataModule:
    """A collection of so many copies of a film; each has a number of its own, so that it is not found in the cache."""
    dataset = dcmread(film)
    for number in range(count):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(folder / f"{number}.dcm")
    rows = [f"{number}.dcm,{('normal', 'malignant')[number % 2]}" for number in range(count)]
    (folder / "labels.csv").write_text("\n".join(["image,label", *rows]) + "\n")
    return MammographyDataModule(folder, sites=1)


def time_preparing(collections: Mapping[str, CachedDataModule], options: argparse.Namespace) -> None:
    """Prepare each collection in these three ways, in turns."""
    for name, data in collections.items():
        files = list(data.table[data.source])[: options.images]

        def build(workers: int, data: CachedDataModule = data, files: list[Path] = files) -> None:
            with tempfile.TemporaryDirectory() as folder:
                data.cache_dir = Path(folder)
                data.cache().build(files, data._prepare, workers)

        def loop(data: CachedDataModule = data, files: list[Path] = files) -> None:
            np.stack([data._prepare(file.read_bytes()) for file in files])

        print(f"{name}, {len(files)} files prepared at {data.size} pixels")
        in_turns({"plain loop": loop, "1 thread": lambda: build(1), "2 threads": lambda: build(2)}, "plain loop",
                 options.repeats)  # fmt: skip


# -- cached epochs -----------------------------------------------------------------------------------------------------


def drain(batches: Iterable[object]) -> None:
    """Ask for all batches."""
    for _ in batches:
        pass


def plain(folder: Path, size: int, augmented: bool) -> Callable[[], None]:
    """What one writes without this package: an ``ImageFolder``, two workers, and transforms an image at a time."""
    turned = transforms.RandomRotation(180, transforms.InterpolationMode.BILINEAR)
    some = [turned, transforms.RandomHorizontalFlip(), transforms.RandomVerticalFlip()]
    steps = [transforms.Resize((size, size)), *(some if augmented else []), transforms.ToTensor()]
    dataset = ImageFolder(str(folder), transforms.Compose([*steps, transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)]))
    return lambda: drain(DataLoader(dataset, BATCH, shuffle=True, num_workers=2))


def cached(data: CachedDataModule, workers: int, augmented: bool, floats: bool = True) -> Callable[[], None]:
    """An epoch over the cache, to normalised floats; or to the bytes that a GPU is sent."""
    data.centralized, data.batch_size = True, BATCH

    def epoch() -> None:
        data.num_workers, data.augmentation = workers, Augmentation() if augmented else None
        batches = (images for images, _ in data._train_loader(data.sites))
        drain(map(data.normalise, batches) if floats else batches)

    return epoch


def bytes_alone(data: CachedDataModule) -> Callable[[], None]:
    """The limit: the same pixels in a random order, copied batch by batch."""
    dataset = data.dataset(data.sites, "train")

    def epoch() -> None:
        order = np.random.default_rng(0).permutation(dataset.slots)
        drain(np.asarray(dataset.pixels[order[start : start + BATCH]]) for start in range(0, len(order), BATCH))

    return epoch


def as_folders(data: FundusDataModule, folder: Path) -> Path:
    """The training photographs in one folder a class, as links."""
    table = data.dataset(data.sites, "train").table
    for path, label in zip(table["path"], table["label"], strict=True):
        place = folder / str(label)
        place.mkdir(exist_ok=True)
        (place / path.name).symlink_to(os.path.abspath(path.path))
    return folder


def epoch(options: argparse.Namespace) -> None:
    """An epoch over the cache against an ``ImageFolder`` and against the bytes alone, each with two cores."""
    torch.set_num_threads(2)
    everything: dict[str, Any] = {"val_fraction": 0.0, "test_fraction": 0.0, "allow_one_class": True}
    with tempfile.TemporaryDirectory() as folder:
        fundus = FundusDataModule(options.fundus, cache_dir=Path(folder) / "cache", **everything)
        photographs = ImageNetDataModule(options.photographs, cache_dir=Path(folder) / "cache", **everything)
        for data in (fundus, photographs):
            data.prepare_data()
        (Path(folder) / "classes").mkdir()
        classes = as_folders(fundus, Path(folder) / "classes")
        for name, data, where in (
            ("fundus", fundus, classes),
            ("photographs", photographs, options.photographs / "train"),
        ):
            for augmented in (True, False):
                print(f"{name} at {data.size} pixels, {'turned and mirrored' if augmented else 'as they are'}")
                ways = {
                    "ImageFolder, 2 workers": plain(where, data.size, augmented),
                    "cache, no worker": cached(data, 0, augmented),
                    "cache, 2 workers": cached(data, 2, augmented),
                    "cache, no worker, left as bytes": cached(data, 0, augmented, floats=False),
                    "the bytes alone": bytes_alone(data),
                }
                in_turns(ways, "ImageFolder, 2 workers", options.repeats)


# -- start-up ----------------------------------------------------------------------------------------------------------


def start_up(options: argparse.Namespace) -> None:
    """The processor's time of ``lit-dist fit`` of one step, on ever longer tables whose images are all one file."""
    seconds = {}
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            root = many_images(Path(folder), rows)
            words = ["fit", "--config", "configs/fundus/cyclical.yaml", f"--data.root={root}", "--data.size=32",
                     f"--data.cache_dir={folder}/cache", "--data.num_workers=0", "--model.backbone=slim_resnet18",
                     "--trainer.max_steps=1", "--trainer.limit_val_batches=0", "--trainer.accelerator=cpu",
                     f"--trainer.logger.save_dir={folder}/runs"]  # fmt: skip
            command = [shutil.which("lit-dist") or "lit-dist", *words]
            times = []
            for _ in range(options.repeats + 1):  # the first builds the cache
                began = children_seconds()
                subprocess.run(command, check=True, capture_output=True)
                times.append(children_seconds() - began)
            seconds[rows] = statistics.median(times[1:])
    least = min(seconds)
    for rows, own in seconds.items():
        more = (
            f", {(own - seconds[least]) / (rows - least) * 1e5:.2f} s of one core for 100,000 more rows"
            if rows > least
            else ""
        )
        print(f"{rows} rows: {own / seconds[least]:.2f} times as long as {least} rows{more}", flush=True)


def children_seconds() -> float:
    """The processor's time that ended children have had: what a busy machine does not change."""
    times = os.times()
    return times.children_user + times.children_system


def many_images(folder: Path, rows: int) -> Path:
    """A collection of so many names for one photograph."""
    (folder / "images").mkdir()
    disc = cv2.circle(np.zeros((64, 64, 3), np.uint8), (32, 32), 30, (200, 90, 30), -1)
    for number in range(rows):
        path, first = (folder / "images" / f"{name}_left.png" for name in (number, number - number % 60_000))
        if path == first:  # file systems allow a file some 65,000 names
            Image.fromarray(disc).save(path)
        else:
            path.hardlink_to(first)
    lines = [f"{number}_left,{number % 2 * 2}" for number in range(rows)]
    (folder / "labels.csv").write_text("\n".join(["image,level", *lines]) + "\n")
    return folder


# -- memory ------------------------------------------------------------------------------------------------------------


def memory(options: argparse.Namespace) -> None:
    """An epoch over a cache that is larger than the memory that the process may have."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        size = 256
        root, count = Path(folder), int(options.gigabytes * 1e9 / (size * size * 3))
        rng = np.random.default_rng(0)
        for label in ("a", "b"):
            (root / "images" / label).mkdir(parents=True)
        for number in range(count):  # each file another one, so that each has a place of its own in the cache
            (root / "images" / "ab"[number % 2] / f"{number}.png").write_bytes(rng.bytes(16))
        data = ImageNetDataModule(root / "images", size=size, cache_dir=root / "cache", batch_size=BATCH)
        image = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
        data.cache().build(list(data.table[data.source]), lambda content: np.roll(image, content[0]))
        if options.cgroup is not None:
            for pixels in (root / "cache").glob("*/pixels.u8"):
                with pixels.open("rb") as file:  # so that the pages are read again, at the group's expense
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            (options.cgroup / "cgroup.procs").write_text(str(os.getpid()))
        loaders = [data._train_loader([site]) for site in data.sites]
        sums = [int(images.sum()) for loader in loaders for images, _ in loader]
        print(f"{len(sums)} batches of a cache of {options.gigabytes} GB were read")
        if options.cgroup is not None:
            peak = options.cgroup / "memory.max_usage_in_bytes"
            print(f"the group's peak, the pages of the file among it: {int(peak.read_text()) / 1e9:.2f} GB")


def main() -> None:
    """Run a benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="benchmark")
    for function in (prepare, epoch, start_up, memory):
        own = commands.add_parser(function.__name__, description=function.__doc__)
        own.set_defaults(function=function)
        own.add_argument("--repeats", type=int, default=5)
        for name in ("fundus", "mias", "film", "photographs", "folder", "cgroup"):
            own.add_argument(f"--{name}", type=Path)
        own.add_argument("--images", type=int, default=300, help="prepare: how many of each collection")
        own.add_argument("--rows", type=int, nargs="*", default=[1_000, 100_000, 1_000_000])
        own.add_argument("--gigabytes", type=float, default=4.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    options.function(options)


if __name__ == "__main__":
    main()

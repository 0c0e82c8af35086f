"""PixelCache: images decoded and prepared once, kept as plain pixels in a memory-mapped file."""

import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from lit_dist.datamodules.images.cache_index import CacheIndex, StoredImage
from lit_dist.datamodules.images.image_index import ImageFile
from lit_dist.datamodules.label_table import collector_paused
from lit_dist.utils.errors import InputError
from lit_dist.utils.progress import tracked

Image = NDArray[np.uint8]
Prepare = Callable[[bytes], Image]
_SAVE_EVERY = 10.0  # seconds between two savings of the index while building
_AT_ONCE = 1024  # files given to the threads, so that a million of them need no memory
_MOST_BYTES = 10**9  # of an image's file; the greatest film without compression has a sixth of it
_SHOWN = 5

Source = ImageFile | Path
"""What an image is prepared from. ``read_bytes`` gives all that the image depends on, but for the cache's settings."""


def default_cache() -> Path:
    """The user's folder for caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lit_dist"


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Say of a cache that cannot be written which one it is, and what to do."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{what} cannot be written ({error.strerror or error}); make room or choose another folder with cache_dir"
        ) from error


class PixelCache:
    """Keeps prepared images by the hash of their file's content and of the settings of the preparation.

    A changed file or setting is therefore never met by an old entry; a renamed or copied file finds its entry again.
    The pixel file only grows, and an index says what it holds after it is on the disk, so what a killed process left
    half-written is not used. One process writes at a time; any number read, and share the pages in memory.

    Args:
        root: The folder of all caches.
        settings: Everything that the prepared pixels depend on, as JSON values.
        shape: The shape of a prepared image, uint8.
    """

    def __init__(self, root: Path, settings: Mapping[str, Any], shape: tuple[int, int, int]) -> None:
        self._settings = json.dumps({**settings, "shape": shape}, sort_keys=True)
        self.folder = root / hashlib.sha256(self._settings.encode()).hexdigest()[:16]
        self.shape = shape
        self.image_bytes = int(np.prod(shape))
        self._pixels = self.folder / "pixels.u8"
        self._index = CacheIndex(self.folder / "index.sqlite")

    def find(self, sources: Sequence[Source]) -> NDArray[np.int64]:
        """The slot of each file's image, (files,); -1 for what is not there, or was changed since."""
        with collector_paused():
            files = self._index.files()
            if not files or self._length() < self._index.slots():
                return np.full(len(sources), -1, np.int64)
            return np.array([_slot(files.get(str(source)), source) for source in sources], np.int64)

    def build(
        self, sources: Sequence[Source], prepare: Prepare, workers: int | None = None
    ) -> tuple[NDArray[np.int64], dict[Source, str]]:
        """Prepare the images that are not there yet, in parallel threads, with a progress bar.

        Args:
            sources: The images' files, or parts of them.
            prepare: Makes the prepared image of a file's content; raises ValueError if it cannot.
            workers: The number of threads; one a core by default. They run side by side as far as ``prepare`` spends
                its time in libraries that let go of Python's lock, as decoders and OpenCV do.

        Returns:
            The slot of each file's image, as ``find`` gives it; and the files that could not be prepared, with the
            reasons.

        Raises:
            InputError: If the cache cannot be written, or the disk has no room for it.
        """
        slots = self.find(sources)
        if (slots >= 0).all():
            return slots, {}
        with writing(f"the image cache {self.folder}"):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # these are patients' images
            (self.folder / "settings.json").write_text(self._settings)
            with FileLock(self.folder / "lock"):
                self._index.mend()
                if not 0 < self._index.slots() <= self._length():
                    self._index.clear()
                    self._pixels.unlink(missing_ok=True)  # who has it mapped keeps it
                slots = self.find(sources)
                missing = np.flatnonzero(slots < 0)
                self._refuse_full_disk(len(missing))
                todo = [sources[number] for number in missing.tolist()]
                slots[missing], failures = self._add(todo, prepare, workers or os.cpu_count() or 1)
        return slots, failures

    def contents(self) -> dict[int, bytes]:
        """The SHA-256 of the file's content of each slot."""
        return {image.slot: image.content for image in self._index.images()}

    def open(self) -> NDArray[np.uint8]:
        """Map the prepared images, read-only: (slots, height, width, colours)."""
        slots = self._index.slots()
        shape = (slots, *self.shape)
        return np.memmap(self._pixels, np.uint8, "r", shape=shape) if slots else np.empty(shape, np.uint8)

    def check(self) -> int:
        """Read all pixels and compare them with the hashes that they were written with.

        Images that have changed are forgotten, so that ``build`` prepares them again.

        Returns:
            How many were forgotten.
        """
        images, pixels = self._index.images(), self.open()
        shown = tracked(images, "Checking images", len(images))
        wrong = [image.slot for image in shown if _hash(pixels[image.slot]) != image.pixels]
        if wrong:
            with writing(f"the image cache {self.folder}"), FileLock(self.folder / "lock"):
                self._index.forget(wrong)
        return len(wrong)

    def _length(self) -> int:
        """The number of whole images in the pixel file."""
        return self._pixels.stat().st_size // self.image_bytes if self._pixels.is_file() else 0

    def _refuse_full_disk(self, count: int) -> None:
        needed, free = count * self.image_bytes, shutil.disk_usage(self.folder).free
        if needed > free:
            raise InputError(
                f"preparing {count} images takes up to {_gigabytes(needed)} in {self.folder}, where {_gigabytes(free)}"
                " are free; make room, choose a smaller size, or another folder with cache_dir"
            )

    def _add(self, sources: Sequence[Source], prepare: Prepare, workers: int) -> tuple[list[int], dict[Source, str]]:
        slots: list[int] = []
        failures: dict[Source, str] = {}
        images: list[StoredImage] = []  # in the pixel file, and not yet noted in the index
        files: list[tuple[str, str, int]] = []
        known = {image.content: image.slot for image in self._index.images()}
        self._pixels.touch()
        with ThreadPoolExecutor(workers) as pool, self._pixels.open("r+b") as file:
            # Behind all that there is: a slot that was forgotten may still be in use by a process that runs.
            free = max(self._index.slots(), self._length())
            file.seek(free * self.image_bytes)
            saved = time.monotonic()
            blocks = (sources[start : start + _AT_ONCE] for start in range(0, len(sources), _AT_ONCE))
            results = (
                each for block in blocks for each in pool.map(lambda it: read_prepared(it, prepare, known), block)
            )
            for source, result in zip(sources, tracked(results, "Preparing images", len(sources)), strict=True):
                if isinstance(result, str):
                    failures[source] = result
                    slots.append(-1)
                    continue
                stamp, content, image = result
                if content not in known and image is not None:
                    if image.shape != self.shape:
                        raise ValueError(f"prepared image has the shape {image.shape}, not {self.shape}")
                    file.write(np.ascontiguousarray(image).data)
                    images.append(StoredImage(free, content, _hash(image)))
                    known[content], free = free, free + 1
                files.append((str(source), stamp, known[content]))
                slots.append(known[content])
                if time.monotonic() - saved > _SAVE_EVERY:
                    self._save(file, images, files)
                    saved = time.monotonic()
            self._save(file, images, files)
        return slots, failures

    def _save(self, file: BinaryIO, images: list[StoredImage], files: list[tuple[str, str, int]]) -> None:
        """Bring the pixels to the disk, and only then say so in the index."""
        file.flush()
        os.fsync(file.fileno())
        self._index.add(images, files)
        images.clear()
        files.clear()


def shown(reasons: Sequence[str]) -> str:
    """The first few reasons, a line each."""
    more = [f"... and {len(reasons) - _SHOWN} more"] if len(reasons) > _SHOWN else []
    return "\n".join([*reasons[:_SHOWN], *more])


Prepared = tuple[str, bytes, Image | None]


def _stamp(status: os.stat_result) -> str:
    """What changes whenever a file's content does. The time of the last change of status cannot be set back."""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _slot(entry: tuple[str, int] | None, source: Source) -> int:
    """The slot of a file that is as it was when the entry was made, or -1."""
    try:
        return entry[1] if entry is not None and entry[0] == _stamp(source.stat()) else -1
    except OSError:
        return -1


def _hash(content: bytes | Image) -> bytes:
    return hashlib.sha256(content if isinstance(content, bytes) else np.ascontiguousarray(content).data).digest()


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def read_prepared(source: Source, prepare: Prepare, known: Container[bytes] = ()) -> Prepared | str:
    """Read a file, and prepare its image unless the hash of its content is known.

    Returns:
        The file's stamp, the hash of its content, and the image; or why it cannot be prepared.
    """
    try:
        status = source.stat()  # before reading: a file that changes now is read again the next time
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a file")
        if status.st_size > _MOST_BYTES:
            raise ValueError(f"it has more than {_gigabytes(_MOST_BYTES)}, which no image has")
        content = source.read_bytes()
        digest = _hash(content)
        return _stamp(status), digest, None if digest in known else prepare(content)
    except (ValueError, OSError) as error:
        return str(error)
    except (MemoryError, cv2.error) as error:
        return f"it cannot be prepared: {' '.join(str(error).split()) or 'the memory does not suffice'}"

"""PixelCache: images decoded and prepared once, kept as plain pixels in a memory-mapped file."""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from rich.progress import track

from lit_dist.errors import InputError

Image = NDArray[np.uint8]
_SAVE_EVERY = 10.0  # seconds between two savings of the index while building
_SHOWN = 5


class Source(Protocol):
    """What an image is prepared from: a path, or what behaves like one and stands for a part of a file."""

    @property
    def name(self) -> str:
        """The file's name."""

    def stat(self) -> os.stat_result:
        """The file's status."""

    def read_bytes(self) -> bytes:
        """All that the prepared image depends on, but for the cache's settings."""


def default_cache() -> Path:
    """The user's folder for caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lit_dist"


@dataclass
class _Index:
    """What the pixel file holds.

    Attributes:
        slots: The slot of each file content, by its hash.
        files: The hash of each file's content, by path, with the size and times that the file had when it was read.
    """

    slots: dict[str, int] = field(default_factory=dict)
    files: dict[str, tuple[list[int], str]] = field(default_factory=dict)


class PixelCache:
    """Keeps prepared images by the hash of their file's content and of the settings of the preparation.

    A changed file or setting is therefore never met by an old entry; a renamed or copied file finds its entry again.
    The pixel file only grows, and an index that is replaced whole says what it holds, so what a killed process left
    half-written is not used. One process writes at a time.

    Args:
        root: The folder of all caches.
        settings: Everything that the prepared pixels depend on, as JSON values.
        shape: The shape of a prepared image, uint8.

    Raises:
        InputError: If the folder cannot be written.
    """

    def __init__(self, root: Path, settings: Mapping[str, Any], shape: tuple[int, int, int]) -> None:
        text = json.dumps({**settings, "shape": shape}, sort_keys=True)
        self.folder = root / hashlib.sha256(text.encode()).hexdigest()[:16]
        self.shape = shape
        self._bytes = int(np.prod(shape))
        self._pixels = self.folder / "pixels.u8"
        self._index = self.folder / "index.json"
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # these are patients' images
            (self.folder / "settings.json").write_text(text)

    def build(
        self, paths: Sequence[Source], prepare: Callable[[bytes], Image], workers: int | None = None
    ) -> dict[Source, str]:
        """Prepare the images that are not there yet, in parallel threads, with a progress bar.

        Args:
            paths: The images' files, or parts of them.
            prepare: Makes the prepared image of a file's content; raises ValueError if it cannot.
            workers: The number of threads; one a core by default. They run side by side as far as ``prepare`` spends
                its time in libraries that let go of Python's lock, as decoders and OpenCV do.

        Returns:
            The files that could not be prepared, with the reasons.

        Raises:
            InputError: If the cache cannot be written.
        """
        with self._writing(), FileLock(self.folder / "lock"):
            index = self._read_index()
            todo = [path for path in paths if not self._known(index, path)]
            return self._add(todo, prepare, workers or os.cpu_count() or 1, index) if todo else {}

    def open(self, paths: Sequence[Source]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Map the cache's pixels, read-only.

        Args:
            paths: Files that ``build`` has prepared.

        Returns:
            All prepared images, (slots, height, width, 3), and the slot of each path.

        Raises:
            InputError: If a file is not there, or has changed since ``build``.
        """
        index = self._read_index()
        for path in paths:
            if not self._known(index, path):
                raise InputError(f"{path} is not in the cache {self.folder}, or was changed; call prepare_data() first")
        slots = np.array([index.slots[index.files[str(path)][1]] for path in paths], dtype=np.int64)
        pixels = np.memmap(self._pixels, dtype=np.uint8, mode="r", shape=(len(index.slots), *self.shape))
        return pixels, slots

    def holds(self, paths: Sequence[Source]) -> NDArray[np.bool_]:
        """Whether each of the files has been prepared and is unchanged."""
        index = self._read_index()
        return np.array([self._known(index, path) for path in paths], dtype=bool)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"the image cache {self.folder} cannot be written ({error.strerror or error}); make room or choose"
                " another folder with cache_dir"
            ) from error

    def _known(self, index: _Index, path: Source) -> bool:
        entry = index.files.get(str(path))
        return entry is not None and entry[0] == _stamp(path) and entry[1] in index.slots

    def _add(
        self, paths: Sequence[Source], prepare: Callable[[bytes], Image], workers: int, index: _Index
    ) -> dict[Source, str]:
        failures: dict[Source, str] = {}
        saved = time.monotonic()
        known = set(index.slots)
        with ThreadPoolExecutor(workers) as pool, self._pixels.open("r+b" if index.slots else "wb") as file:
            results = pool.map(lambda path: _prepare(path, prepare, known), paths)
            for path, result in zip(paths, track(results, "Preparing images", total=len(paths)), strict=True):
                if isinstance(result, str):
                    failures[path] = result
                    continue
                stamp, digest, image = result
                if digest not in index.slots and image is not None:
                    if image.shape != self.shape:
                        raise ValueError(f"prepared image has the shape {image.shape}, not {self.shape}")
                    file.seek(len(index.slots) * self._bytes)
                    file.write(np.ascontiguousarray(image).data)
                    index.slots[digest] = len(index.slots)
                index.files[str(path)] = (stamp, digest)
                if time.monotonic() - saved > _SAVE_EVERY:
                    self._save(file, index)
                    saved = time.monotonic()
            self._save(file, index)
        return failures

    def _save(self, file: BinaryIO, index: _Index) -> None:
        file.flush()
        os.fsync(file.fileno())  # the pixels are on the disk before an index says so
        with tempfile.NamedTemporaryFile("w", dir=self.folder, suffix=".part", delete=False) as part:
            json.dump({"slots": index.slots, "files": index.files}, part)
            part.flush()
            os.fsync(part.fileno())
        os.replace(part.name, self._index)

    def _read_index(self) -> _Index:
        try:
            content = json.loads(self._index.read_text())
            index = _Index(
                content["slots"], {path: (stamp, digest) for path, (stamp, digest) in content["files"].items()}
            )
            complete = self._pixels.stat().st_size >= len(index.slots) * self._bytes
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return _Index()
        return index if complete else _Index()


def refuse_failures(failures: Mapping[Source, str], can_skip: bool = True) -> None:
    """Refuse images that could not be prepared.

    Args:
        failures: The images' files, with the reasons.
        can_skip: Whether the collection has the setting ``on_error``.

    Raises:
        InputError: If there are any; it names the first few.
    """
    if failures:
        lines = [f"{path}: {reason}" for path, reason in list(failures.items())[:_SHOWN]]
        more = f"\n... and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else ""
        skip = ", or leave them out with on_error=skip" if can_skip else ""
        raise InputError(
            f"{len(failures)} images cannot be used; mend or remove them{skip}:\n" + "\n".join(lines) + more
        )


def _stamp(path: Source) -> list[int]:
    """What changes whenever a file's content does. The time of the last change of status cannot be set back."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _prepare(
    path: Source, prepare: Callable[[bytes], Image], known: set[str]
) -> tuple[list[int], str, Image | None] | str:
    try:
        stamp = _stamp(path)  # before reading: a file that changes now is read again the next time
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        return stamp, digest, None if digest in known else prepare(content)
    except (ValueError, OSError) as error:
        return str(error)

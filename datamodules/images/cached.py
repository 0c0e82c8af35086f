"""CachedDataModule: a collection whose images are decoded and prepared once, into a cache."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from numpy.typing import NDArray
from typing_extensions import override

from lit_dist.datamodules.images.cache import PixelCache, Source, default_cache, shown
from lit_dist.datamodules.images.copies import OnDuplicate, content_numbers, settle
from lit_dist.datamodules.images.data_root import is_foreign
from lit_dist.datamodules.images.datamodule import ImageDataModule
from lit_dist.datamodules.images.decoding import LARGEST, LEAST, centre_square
from lit_dist.datamodules.images.site_images import Pixels
from lit_dist.datamodules.splits import CONTENT
from lit_dist.utils.errors import InputError
from lit_dist.utils.setting_checks import check_choice, check_range

_SLOT = "slot of the image"
"""The column with the slots that were looked up when the table was read."""


class CachedDataModule(ImageDataModule):
    """What collections of image files have in common.

    A collection's table has a column with the files, named by ``source``. It implements ``method``, which says how
    images are prepared, and ``_prepare``, which does it.

    Args:
        size: The side of the prepared images, in pixels.
        cache_dir: Where prepared images are kept; the user's cache folder by default.
        on_error: ``"raise"`` refuses images that are missing or unreadable; ``"skip"`` leaves them out, with a warning.
        on_duplicate: What becomes of images that have the same content, byte for byte, under two names: they are
            ``"group"``: taken for images of one patient; ``"drop"``: left out but for the first, and where labels
            differ all; ``"raise"``: refused; ``"keep"``: left where they are, with a warning. Unless they are to be
            kept, none is in two splits or at two sites.
        **kwargs: Further arguments of ``ImageDataModule``.

    Attributes:
        source: The table's column with what the cache reads.
        left_out: The files that ``prepare_data`` could not read and has left out, with the reasons.
    """

    source = "path"
    left_out: Mapping[Source, str] = {}
    _found: tuple[pd.DataFrame, NDArray[np.int64]] | None = None

    def __init__(
        self,
        size: int,
        cache_dir: str | Path | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        on_duplicate: OnDuplicate = "group",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice(("raise", "skip"), on_error=on_error)
        check_choice(get_args(OnDuplicate), on_duplicate=on_duplicate)
        check_range(LEAST, LARGEST, size=size)
        self.size = size
        self.cache_dir = Path(cache_dir) if cache_dir else default_cache()
        self.on_error = on_error
        self.on_duplicate = on_duplicate

    @override
    @abstractmethod
    def method(self) -> dict[str, Any]:
        """What the prepared images depend on, besides their size: each answer has a cache of its own."""

    @override
    @abstractmethod
    def _prepare(self, content: bytes) -> NDArray[np.uint8]:
        """Decode a file's bytes and prepare the image: uint8, (size, size, 3).

        Raises:
            ValueError: If they are not an image.
        """

    @override
    def prepare_data(self) -> None:
        """Prepare the images that are not in the cache yet."""
        slots, failures = self._prepared()
        failures = self._with_origins(failures)
        reasons = shown([f"{path}: {reason}" for path, reason in failures.items()])
        if failures and self.on_error == "raise":
            raise InputError(
                f"{len(failures)} images cannot be used; mend or remove them, or leave them out with on_error=skip:\n"
                + reasons
            )
        if failures:
            rank_zero_warn(f"{len(failures)} images are left out:\n{reasons}")
        self.left_out = failures
        self._found = self.table, slots

    def _prepared(self) -> tuple[NDArray[np.int64], Mapping[Source, str]]:
        """The slots of the table's images; they have just been looked up where the table was read for this."""
        known, table = self._table is not None, self.table
        if not known and (self._early >= 0).all():
            return self._early, {}
        return self.cache().build(list(table[self.source]), self._prepare)

    @override
    def _assign(self, images: pd.DataFrame) -> pd.DataFrame:
        table = super()._assign(images)
        self._early = table[_SLOT].to_numpy(np.int64)
        return table.drop(columns=_SLOT)

    @override
    def mark_copies(self, images: pd.DataFrame) -> pd.DataFrame:
        files, cache = images[self.source].tolist(), self.cache()
        slots = cache.find(files)
        return images.assign(**{CONTENT: content_numbers(files, slots, cache.contents), _SLOT: slots})

    @override
    def settle_copies(self, images: pd.DataFrame) -> pd.DataFrame:
        settled = settle(images, self.on_duplicate)
        if len(settled) < len(images):
            gone = images[~images["image"].isin(settled["image"])]
            self.leave_out(gone, f"copies of others (on_duplicate={self.on_duplicate})")
        return settled

    def _with_origins(self, failures: Mapping[Source, str]) -> dict[Source, str]:
        """The reasons, with the row of the list or table that names the file, if there is one."""
        reasons = dict(failures)
        for _, row in self.table[self.table[self.source].isin(list(reasons))].iterrows():
            file, origin = row[self.source], str(row["origin"])
            if origin not in ("", str(file)):
                reasons[file] += f" ({origin})"
        return reasons

    @override
    def pixels(self, table: pd.DataFrame) -> tuple[Pixels, NDArray[np.int64]]:
        slots, cache = self._slots(table), self.cache()
        for file in table[self.source][slots < 0][:1]:
            raise InputError(f"{file} is not in the cache {cache.folder}, or was changed; call prepare_data() first")
        return cache.open(), slots

    @override
    def usable(self, table: pd.DataFrame) -> pd.DataFrame:
        if self.on_error == "raise":
            return table
        return table[self._slots(table) >= 0].reset_index(drop=True)

    def cache(self) -> PixelCache:
        """Where the prepared images are kept."""
        return PixelCache(self.cache_dir, {**self.method(), "size": self.size}, (self.size, self.size, 3))

    def _slots(self, table: pd.DataFrame) -> NDArray[np.int64]:
        # To ask a million files whether they have changed takes seconds, so a table is looked up once.
        if self._found is None or self._found[0] is not table:
            self._found = table, self.cache().find(list(table[self.source]))
        return self._found[1]

    def without_missing(self, table: pd.DataFrame, folder: Path) -> pd.DataFrame:
        """The rows whose file is there; others are refused or left out.

        Args:
            table: With the columns ``image``, ``source`` and ``origin``.
            folder: Where the files were looked for.

        Raises:
            InputError: If one is missing and ``on_error`` does not allow it.
        """
        there = table[self.source].notna()
        missing = table[~there]
        if len(missing):
            first = missing.iloc[0]
            text = f"{first['origin']}: there is no image {first['image']!r} in {folder} ({len(missing)} are missing)"
            if is_foreign(first["image"]):
                text += "; what has such a name is passed over, as left by another program: remove the row or rename it"
            if self.on_error == "raise":
                raise InputError(f"{text}; leave such rows out with on_error=skip")
            rank_zero_warn(f"{text}; they are left out")
            self.leave_out(missing, "missing")
        return table[there]

    def say_patients(self, told: bool, advice: str = "set --data.patient_column") -> None:
        """Say that each image counts as a patient, unless it is told whose it is."""
        if not told:
            rank_zero_info(
                "Nothing says which images are of one patient, so each counts as one, and a patient's images may be in"
                f" training and in the test; to tell them, {advice}"
            )


class CentreSquares(CachedDataModule):
    """A collection whose images become the square in their middle."""

    @override
    def method(self) -> dict[str, Any]:
        return {"method": "centre square", "version": 1}

    @override
    def _prepare(self, content: bytes) -> NDArray[np.uint8]:
        return centre_square(content, self.size)

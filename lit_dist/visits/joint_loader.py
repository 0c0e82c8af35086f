"""JointLoader: several loaders of one site that are drawn from at once, such as labelled and unlabelled records."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

from lightning.fabric.utilities.data import sized_len
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import DataLoader

from lit_dist.utils.errors import InputError
from lit_dist.utils.lightning_internals import mode_of

Mode = Literal["max_size_cycle", "min_size", "max_size"]
Begin = Callable[[int, Any, int], Iterator[Any]]
"""Begins a pass over a loader, by its number and how often it was begun in the pass of all together."""


class JointLoader:
    """Loaders whose batches come together, in a structure such as theirs.

    It is as long as the longest of them, and the others are begun again; or as Lightning's ``CombinedLoader`` has it.
    The one that decides how long it is says how many records a batch has.

    Args:
        loaders: A dict or a list of loaders, as deep as it is.
        mode: As that of ``CombinedLoader``.

    Attributes:
        flattened: The loaders.

    Example:
        >>> joint = JointLoader({"labelled": [1, 2], "unlabelled": [3, 4, 5]})
        >>> list(joint)[-1], len(joint), joint.counted({"labelled": [0], "unlabelled": [0, 0]})
        ({'labelled': 1, 'unlabelled': 5}, 3, [0, 0])
    """

    def __init__(self, loaders: Any, mode: Mode = "max_size_cycle") -> None:
        self.mode: Mode = mode
        self._paths = [path for path, _ in _parts(loaders)]
        self._tree = loaders
        self.flattened: list[Any] = [loader for _, loader in _parts(loaders)]

    def __len__(self) -> int:
        lengths = [sized_len(loader) for loader in self.flattened]
        known = [length for length in lengths if length is not None]
        if len(known) < len(lengths):
            raise TypeError("one of the loaders has no length")
        return min(known) if self.mode == "min_size" else max(known)

    def __iter__(self) -> Iterator[Any]:
        return self.begin(lambda number, loader, times: iter(loader))

    def begin(self, begin: Begin) -> Iterator[Any]:
        """Begin a pass, in which each loader is begun by a function."""
        loaders = _replaced(self._tree, iter([_Begun(n, each, begin) for n, each in enumerate(self.flattened)]))
        return (batch for batch, _, _ in CombinedLoader(loaders, self.mode))

    @property
    def dataset(self) -> Any:
        """The records that count."""
        return self.flattened[self._leading].dataset

    def counted(self, batch: Any) -> Any:
        """The part of a batch whose records count; all of it if it has another structure."""
        part = batch
        try:
            for key in self._paths[self._leading]:
                part = part[key]
        except (LookupError, TypeError):
            return batch
        return part

    @property
    def _leading(self) -> int:
        """The number of the loader that decides how long a pass is."""
        lengths = [sized_len(loader) for loader in self.flattened]
        wanted = (min if self.mode == "min_size" else max)(-1 if length is None else length for length in lengths)
        return next((n for n, length in enumerate(lengths) if length == wanted), 0)


class _Begun:
    """A loader that is begun by a function, each time anew."""

    def __init__(self, number: int, loader: Any, begin: Begin) -> None:
        self._number, self._loader, self._begin = number, loader, begin
        self._times = 0

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        self._times += 1
        return self._begin(self._number, self._loader, self._times - 1)


def as_loader(loader: Any) -> Any:
    """A site's loader; of a dict or list of them, or a ``CombinedLoader``, a ``JointLoader``.

    Raises:
        InputError: If a ``CombinedLoader`` comes to one loader after the other.
    """
    if isinstance(loader, CombinedLoader):
        mode: Any = mode_of(loader)
        if mode == "sequential":
            raise InputError("a CombinedLoader of mode 'sequential' cannot be trained from; join the datasets instead")
        return JointLoader(loader.iterables, mode)
    several = isinstance(loader, list | tuple) and any(isinstance(each, DataLoader | Mapping) for each in loader)
    return JointLoader(loader) if isinstance(loader, Mapping) or several else loader


def loaders_in(loader: Any) -> list[Any]:
    """The loaders that a site's loader is made of: itself, or several."""
    joint = as_loader(loader)
    return list(joint.flattened) if isinstance(joint, JointLoader) else [loader]


def site_of_each(loaders: Mapping[str, Any]) -> list[str]:
    """The sites of the loaders that Lightning numbers, of which a site may have several.

    Example:
        >>> site_of_each({"mgh": {"x": [1], "y": [2]}, "ucsf": [3]})
        ['mgh', 'mgh', 'ucsf']
    """
    return [site for site, each in loaders.items() for _ in loaders_in(each)]


def _parts(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    pairs: Iterable[Any]
    if isinstance(tree, Mapping):
        pairs = tree.items()
    elif isinstance(tree, list | tuple) and any(isinstance(each, DataLoader | Mapping) for each in tree):
        pairs = enumerate(tree)
    else:
        yield path, tree
        return
    for key, each in pairs:
        yield from _parts(each, (*path, key))


def _replaced(tree: Any, loaders: Iterator[Any]) -> Any:
    if isinstance(tree, Mapping):
        return {key: _replaced(each, loaders) for key, each in tree.items()}
    if isinstance(tree, list | tuple) and any(isinstance(each, DataLoader | Mapping) for each in tree):
        return [_replaced(each, loaders) for each in tree]
    return next(loaders)

"""Lightning comes as two packages, ``lightning`` and the older ``pytorch_lightning``, whose classes do not mix.

Each looks for its own classes: a callback of one is called by the other's Trainer, but is not found where it counts.
"""

import sys
from collections.abc import Iterable

from lightning.pytorch.utilities import rank_zero_warn

from lit_dist.utils.errors import InputError

_OTHER = "pytorch_lightning"
_ADVICE = (
    "lit_dist works with the package lightning, and the two do not mix: write 'import lightning.pytorch as pl' in place"
    " of 'import pytorch_lightning as pl' everywhere; the names in it are the same"
)


def check_package(parts: Iterable[object]) -> None:
    """Refuse a trainer, module, callback or other part of a fit that comes from the other package.

    Raises:
        InputError: If one of them is the other package's.
    """
    for part in parts:
        roots = {kind.__module__.partition(".")[0] for kind in type(part).__mro__}
        if _OTHER in roots and "lightning" not in roots:
            raise InputError(f"the {type(part).__name__} is one of {_OTHER}; {_ADVICE}")


def is_known(kind: type) -> bool:
    """Whether a class is defined by Lightning or here, and not by the user."""
    return kind.__module__.startswith(("lightning.", "lit_dist."))


def warn_of_other_package() -> None:
    """Say what to import, where Lightning itself would only say that a module is none, or that a parent is missing."""
    if _OTHER in sys.modules:
        rank_zero_warn(f"{_OTHER} is imported; {_ADVICE}")

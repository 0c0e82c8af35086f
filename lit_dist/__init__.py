"""lit_dist: one network trained over several hospitals, where the model travels and the data does not."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lit_dist.baton import read_checkpoint
    from lit_dist.checkpoint_io import SafetensorsCheckpointIO
    from lit_dist.classifier import ImageClassifier
    from lit_dist.ensemble import SiteEnsemble
    from lit_dist.errors import InputError
    from lit_dist.itinerary import Itinerary, Visit
    from lit_dist.ledger import Ledger
    from lit_dist.run_folder import newest_checkpoint
    from lit_dist.site_loader import SiteLoader

__all__ = [
    "ImageClassifier",
    "InputError",
    "Itinerary",
    "Ledger",
    "SafetensorsCheckpointIO",
    "SiteEnsemble",
    "SiteLoader",
    "Visit",
    "newest_checkpoint",
    "read_checkpoint",
]

_HOMES = {
    "ImageClassifier": "classifier",
    "InputError": "errors",
    "Itinerary": "itinerary",
    "Ledger": "ledger",
    "SafetensorsCheckpointIO": "checkpoint_io",
    "SiteEnsemble": "ensemble",
    "SiteLoader": "site_loader",
    "Visit": "itinerary",
    "newest_checkpoint": "run_folder",
    "read_checkpoint": "baton",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that importing the package costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'lit_dist' has no attribute {name!r}")
    return getattr(import_module(f"lit_dist.{_HOMES[name]}"), name)

"""lit_dist: one network trained over several hospitals, where the model travels and the data does not."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lit_dist.checkpoints.baton import read_checkpoint
    from lit_dist.checkpoints.checkpoint_io import SafetensorsCheckpointIO
    from lit_dist.checkpoints.run_folder import newest_checkpoint
    from lit_dist.models.classifier import ImageClassifier
    from lit_dist.models.ensemble import SiteEnsemble
    from lit_dist.models.image_predictor import ImagePredictor
    from lit_dist.models.tabular_predictor import TabularPredictor
    from lit_dist.provenance.ledger import Ledger
    from lit_dist.tasks.task import Task
    from lit_dist.utils.errors import InputError
    from lit_dist.visits.itinerary import Itinerary, Visit
    from lit_dist.visits.site_loader import SiteLoader
    from lit_dist.visits.visit_callback import VisitCallback

__all__ = [
    "ImageClassifier",
    "ImagePredictor",
    "InputError",
    "Itinerary",
    "Ledger",
    "SafetensorsCheckpointIO",
    "SiteEnsemble",
    "SiteLoader",
    "TabularPredictor",
    "Task",
    "Visit",
    "VisitCallback",
    "newest_checkpoint",
    "read_checkpoint",
]

_HOMES = {
    "ImageClassifier": "models.classifier",
    "ImagePredictor": "models.image_predictor",
    "InputError": "utils.errors",
    "Itinerary": "visits.itinerary",
    "Ledger": "provenance.ledger",
    "SafetensorsCheckpointIO": "checkpoints.checkpoint_io",
    "SiteEnsemble": "models.ensemble",
    "SiteLoader": "visits.site_loader",
    "TabularPredictor": "models.tabular_predictor",
    "Task": "tasks.task",
    "Visit": "visits.itinerary",
    "VisitCallback": "visits.visit_callback",
    "newest_checkpoint": "checkpoints.run_folder",
    "read_checkpoint": "checkpoints.baton",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that importing the package costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'lit_dist' has no attribute {name!r}")
    return getattr(import_module(f"lit_dist.{_HOMES[name]}"), name)

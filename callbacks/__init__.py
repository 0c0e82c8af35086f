"""The heuristics as Lightning callbacks, one a file."""

from lit_dist.callbacks.cyclical import CyclicalWeightTransfer
from lit_dist.callbacks.prediction_writer import PredictionWriter
from lit_dist.callbacks.run_checkpoint import RunCheckpoint
from lit_dist.callbacks.single import SingleWeightTransfer
from lit_dist.callbacks.site_evaluation import SiteEvaluation
from lit_dist.callbacks.weight_transfer import WeightTransfer

__all__ = [
    "CyclicalWeightTransfer",
    "PredictionWriter",
    "RunCheckpoint",
    "SingleWeightTransfer",
    "SiteEvaluation",
    "WeightTransfer",
]

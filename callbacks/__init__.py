"""The heuristics and remedies as Lightning callbacks, one a file."""

from lit_dist.callbacks.heuristics.cyclical_weight_transfer import CyclicalWeightTransfer
from lit_dist.callbacks.heuristics.daisy_chaining import DaisyChaining
from lit_dist.callbacks.heuristics.federated_averaging import FederatedAveraging
from lit_dist.callbacks.heuristics.single_weight_transfer import SingleWeightTransfer
from lit_dist.callbacks.heuristics.weight_transfer import WeightTransfer
from lit_dist.callbacks.prediction_writer import PredictionWriter
from lit_dist.callbacks.remedies.ewc import EWC
from lit_dist.callbacks.remedies.fed_prox import FedProx
from lit_dist.callbacks.remedies.fix_bn import FixBN
from lit_dist.callbacks.remedies.local_batch_norm import LocalBatchNorm
from lit_dist.callbacks.run_checkpoint import RunCheckpoint
from lit_dist.callbacks.site_evaluation import SiteEvaluation
from lit_dist.callbacks.site_statistics import SiteStatistics
from lit_dist.callbacks.site_validation import SiteValidation
from lit_dist.callbacks.visit_averaging import VisitAveraging
from lit_dist.callbacks.wandb_artifacts import WandbArtifacts

__all__ = [
    "EWC",
    "CyclicalWeightTransfer",
    "DaisyChaining",
    "FedProx",
    "FederatedAveraging",
    "FixBN",
    "LocalBatchNorm",
    "PredictionWriter",
    "RunCheckpoint",
    "SingleWeightTransfer",
    "SiteEvaluation",
    "SiteStatistics",
    "SiteValidation",
    "VisitAveraging",
    "WandbArtifacts",
    "WeightTransfer",
]

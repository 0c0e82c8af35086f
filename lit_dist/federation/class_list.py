"""ClassList: the classes that a run is built of, named one by one."""

import sys
from collections.abc import Iterable, Iterator
from importlib import import_module

from lit_dist.utils.errors import InputError

_CALLBACKS = (
    *("DeviceStatsMonitor", "EarlyStopping", "GradientAccumulationScheduler", "LearningRateMonitor", "ModelCheckpoint"),
    *("ModelSummary", "RichModelSummary", "RichProgressBar", "TQDMProgressBar", "Timer"),
)
_OPTIMIZERS = (
    *("Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "ASGD", "Muon", "NAdam", "RAdam"),
    *("RMSprop", "Rprop", "SGD", "SparseAdam"),
)
_SCHEDULES = (
    *("ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "ExponentialLR", "LinearLR"),
    *("MultiStepLR", "OneCycleLR", "PolynomialLR", "ReduceLROnPlateau", "StepLR"),
)
_LOSSES = (
    *("BCEWithLogitsLoss", "CrossEntropyLoss", "HuberLoss", "L1Loss", "MSELoss", "NLLLoss", "SmoothL1Loss"),
)  # fmt: skip
_METRICS = (
    *("BinaryAccuracy", "BinaryAUROC", "BinaryF1Score", "MulticlassAccuracy", "MulticlassAUROC", "MulticlassF1Score"),
)  # fmt: skip

SHIPPED = (
    "lit_dist.ImageClassifier",
    "lit_dist.ImagePredictor",
    "lit_dist.TabularPredictor",
    "lit_dist.callbacks.CyclicalWeightTransfer",
    "lit_dist.callbacks.DaisyChaining",
    "lit_dist.callbacks.FederatedAveraging",
    "lit_dist.callbacks.SingleWeightTransfer",
    "lit_dist.callbacks.SiteEvaluation",
    "lit_dist.callbacks.SiteStatistics",
    "lit_dist.callbacks.EWC",
    "lit_dist.callbacks.FedProx",
    "lit_dist.callbacks.FixBN",
    "lit_dist.callbacks.LocalBatchNorm",
    "lit_dist.callbacks.VisitAveraging",
    "lit_dist.callbacks.PredictionWriter",
    "lightning.pytorch.cli.ReduceLROnPlateau",
    *(f"lightning.pytorch.callbacks.{name}" for name in _CALLBACKS),
    *(f"torch.optim.{name}" for name in _OPTIMIZERS),
    *(f"torch.optim.lr_scheduler.{name}" for name in _SCHEDULES),
    *(f"torch.nn.{name}" for name in _LOSSES),
    *(f"torchmetrics.classification.{name}" for name in _METRICS),
)
"""What a run is built of where nobody says more: classes that call nothing, read nothing and write nothing by name."""

LOGGERS = tuple(f"lightning.pytorch.loggers.{name}" for name in ("CSVLogger", "TensorBoardLogger", "WandbLogger"))
"""The loggers of a server. At a site they are its own, from ``site.yaml``."""


class ClassList:
    """The classes shipped, and those that the people whose machine it is have named, such as ``mylab.models.Net``.

    A name of theirs that is not a class that can be imported is an ``InputError``.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        shipped = [kind for name in (*SHIPPED, *LOGGERS) if (kind := _imported(name)) is not None]
        self._kinds: dict[str, type] = {}
        for kind in [*shipped, *map(_class, names)]:
            self._kinds |= dict.fromkeys(_names(kind), kind)
        self._kinds |= {name: _class(name) for name in names}

    def find(self, name: str, kind: type = object) -> type | None:
        """The class of a name, if it is on the list and of a kind.

        Args:
            name: Its name, with its module or, where one class only is called so, without.
            kind: What it must be, or inherit from.
        """
        if "." in name:
            found = {self._kinds[name]} if name in self._kinds else set()
        else:
            found = {each for each in self._kinds.values() if each.__name__ == name}
        fitting = [each for each in found if _is_of(each, kind)]
        return fitting[0] if len(fitting) == 1 else None


def _is_of(each: type, kind: type) -> bool:
    try:
        return issubclass(each, kind)
    except TypeError:  # a protocol that cannot be looked for
        return False


def _class(name: str) -> type:
    found = _imported(name)
    if found is None:
        raise InputError(
            f"classes names {name!r}, which is not a class that can be imported; write package.module.Class"
        )
    return found


def _imported(name: str) -> type | None:
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(import_module(module), attribute, None) if module else None
    except Exception:  # of any kind, by what the module does
        found = None
    return found if isinstance(found, type) else None


def _names(kind: type) -> Iterator[str]:
    """The names of a class: where it is defined, and in the packages above that have it, too."""
    module = kind.__module__
    yield f"{module}.{kind.__qualname__}"
    while "." in module:
        module = module.rpartition(".")[0]
        if getattr(sys.modules.get(module), kind.__name__, None) is kind:
            yield f"{module}.{kind.__name__}"

"""VisitDisplay: says in the progress bar and to the loggers where the model is."""

from collections.abc import Callable, Sequence
from typing import Any

from lightning.pytorch import Trainer

from lit_dist.utils.method_patch import MethodPatch
from lit_dist.visits.itinerary import Visit


class VisitDisplay:
    """Adds the site to the progress bar, and the visit under way, its cycle and site to what is logged."""

    def __init__(self, trainer: Trainer, visit: Callable[[], Visit | None]) -> None:
        self._trainer = trainer
        self._visit = visit
        self._bar: MethodPatch | None = None
        if trainer.progress_bar_callback is not None:
            self._bar = MethodPatch(trainer.progress_bar_callback, "get_metrics", lambda *args: self._metrics(*args))

    def _metrics(self, *args: Any) -> dict[str, Any]:
        assert self._bar is not None
        visit = self._visit()
        return {**({"site": visit.site} if visit else {}), **self._bar.original(*args)}

    def on_train_start(self, sites: Sequence[str]) -> None:
        """Say which number stands for which site."""
        self.sites = sites
        for logger in self._trainer.loggers:
            logger.log_hyperparams({"sites": dict(enumerate(sites))})

    def on_visit_start(self, visit: Visit) -> None:
        """Log where the model is, also where a visit is resumed."""
        if self._trainer.barebones:
            return
        # Lightning repeats a value in every logged step of the epoch until it is logged anew.
        fields = {"visit": visit.number, "cycle": visit.cycle, "site": self.sites.index(visit.site)}
        values = {name: float(value) for name, value in fields.items()}
        self._trainer.lightning_module.log_dict(values, on_step=True, on_epoch=False, batch_size=1)

    def close(self) -> None:
        """Leave the progress bar as it was."""
        if self._bar is not None:
            self._bar.lift()

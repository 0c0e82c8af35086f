"""What a callback remembers of a visit that neither travels nor stays: in a federation each site would have its own."""

import contextlib
from collections.abc import Iterator

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from lit_dist.callbacks import SingleWeightTransfer, WeightTransfer
from lit_dist.callbacks.remedies.anchored import Anchored
from lit_dist.federation.refusal import Refusal
from lit_dist.provenance.plain_values import attributes, plain_json
from lit_dist.utils.errors import InputError
from lit_dist.utils.one_lightning import is_known
from lit_dist.visits.visit_callback import VisitCallback, visit_callbacks

_OF_STEPS = (
    *("on_train_batch_start", "on_train_batch_end", "on_before_backward", "on_after_backward"),
    *("on_before_optimizer_step", "on_before_zero_grad"),
)
_STATE = ("state_dict", "load_state_dict", "on_save_checkpoint", "on_load_checkpoint")
_INSTEAD = (
    "let it be a VisitCallback, which keeps such state in self.travelling or self.staying; or say takes_part = False in"
    " its class, if it only watches"
)

_AT_SERVER = (
    ", which comes after the validation that ends a visit: in a federation that is at the server, which has neither a"
    " site's images nor what stays there. Use CyclicalWeightTransfer, or leave it out"
)


def refuse_state_of_steps(trainer: Trainer) -> None:
    """Refuse callbacks of the user's that have state in checkpoints and act in steps, which only sites make.

    Raises:
        InputError: If there is one.
    """
    for callback in _own(trainer):
        kind = type(callback)
        hooks, state = ([name for name in names if _overrides(kind, name)] for names in (_OF_STEPS, _STATE))
        if hooks and state:
            raise InputError(
                f"{kind.__name__} has state ({state[0]}), and acts in the steps of a visit ({hooks[0]}), which each"
                f" site would do with a state of its own: {_INSTEAD}"
            )


def refuse_ends_elsewhere(trainer: Trainer, transfer: WeightTransfer) -> None:
    """Refuse what acts at the end of visits that a validation ends: that is at the server, without the site's state.

    Raises:
        InputError: If there is such a callback.
    """
    for callback in visit_callbacks(trainer) if isinstance(transfer, SingleWeightTransfer) else ():
        kind = type(callback)
        if kind.on_visit_end not in (VisitCallback.on_visit_end, Anchored.on_visit_end):
            raise InputError(f"{kind.__name__} acts in on_visit_end{_AT_SERVER}")
        if kind.on_cycle_end is not VisitCallback.on_cycle_end:
            raise InputError(f"{kind.__name__} acts in on_cycle_end{_AT_SERVER}")


def refuse_local_within_visits(trainer: Trainer, module: LightningModule, transfer: WeightTransfer) -> None:
    """Refuse a run that would take a model from a site within a visit, with weights in it that are the site's own.

    Raises:
        InputError: If the run validates or ends within visits, and a callback leaves weights or buffers at the sites.
    """
    keeps = [type(each).__name__ for each in visit_callbacks(trainer) if each.local_tensors(module)]
    if not keeps:
        return
    passes, every = transfer.every_n_epochs or 1, trainer.check_val_every_n_epoch
    cycles = transfer.validation == "cycle" and every == 1
    within = trainer.val_check_interval != 1.0 or not (cycles or (every is not None and every % passes == 0))
    if isinstance(transfer, SingleWeightTransfer) or (trainer.limit_val_batches and within):
        raise InputError(
            f"{keeps[0]} leaves what is a site's own there when a visit ends, and this run validates within visits,"
            " which in a federation would show it to the server: validate after whole cycles (validation: cycle of a"
            " transfer other than SingleWeightTransfer, val_check_interval: 1.0)"
        )
    if (trainer.max_epochs or 0) % passes:
        raise InputError(
            f"{keeps[0]} leaves what is a site's own there when a visit ends, and max_epochs={trainer.max_epochs} ends"
            f" within a visit of {passes} epochs: take a multiple of it"
        )


@contextlib.contextmanager
def refuse_memory(trainer: Trainer) -> Iterator[None]:
    """Refuse what changes an attribute of a user's callback within a visit at this site.

    Raises:
        Refusal: If one is changed.
    """
    before = {id(callback): _held(callback) for callback in _own(trainer)}
    yield
    for callback in _own(trainer):
        held, known = _held(callback), before.get(id(callback), {})
        changed = sorted(name for name in held.keys() | known.keys() if held.get(name) != known.get(name))
        if changed:
            raise Refusal(
                f"{type(callback).__name__} changes its attribute {changed[0]!r} in a visit, which no other site would"
                f" know of: {_INSTEAD}"
            )


def _own(trainer: Trainer) -> list[Callback]:
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [
        each
        for each in callbacks
        if not isinstance(each, VisitCallback) and not is_known(type(each)) and getattr(each, "takes_part", True)
    ]


def _overrides(kind: type, name: str) -> bool:
    return getattr(kind, name) is not getattr(Callback, name)


def _held(callback: Callback) -> dict[str, str]:
    held = {}
    for name, value in attributes(callback).items():
        with contextlib.suppress(InputError):  # what cannot be told apart
            held[name] = plain_json(value)
    return held

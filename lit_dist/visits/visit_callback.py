"""VisitCallback: what takes part in the visits of a model, and whose state travels with it or stays at its site."""

import copy
import inspect
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import move_data_to_device
from torch import Tensor
from typing_extensions import override

from lit_dist.utils.errors import InputError
from lit_dist.utils.file_backed import FileBacked, check_parts, file_backed
from lit_dist.visits.itinerary import Visit
from lit_dist.visits.visit_state import difference, form, own_state, state_bytes

_OURS = ("state_dict", "load_state_dict", "travelling", "staying")


class VisitCallback(Callback):
    """A callback with the events of a visit, and with state that travels or stays.

    A remedy is one: it changes what happens within a visit, by these events and by Lightning's own hooks (a term of the
    loss, for instance, by its gradient in ``on_before_optimizer_step``). Any number may stand in a trainer's callbacks,
    beside a transfer callback; each event reaches them in their order. Their constructors' arguments are part of the
    settings' hash.

    All state is in ``travelling`` and ``staying``: nested dictionaries of tensors, numbers and text. A run that resumes
    has both again; in a federation the one crosses the wire, and the other never does. So ``state_dict`` is not to be
    overridden, and what a hook keeps in another attribute is lost where a run is interrupted.

    A visit that passes without training, since its site is absent, has no events; one that diverges and is skipped has
    no end, and its state is put back to what it was when the visit began.

    Raises:
        TypeError: If a subclass, or a class beside it, overrides ``state_dict``, ``load_state_dict`` or the two states.
        InputError: If the states hold anything else; if what travels has another form than it began with; if no
            transfer callback is there.

    Example:
        >>> class CountVisits(VisitCallback):
        ...     def begin_run(self, trainer, pl_module):
        ...         self.travelling = {"visits": 0}
        ...     def on_visit_end(self, trainer, pl_module, visit):
        ...         self.travelling["visits"] += 1
        ...         self.staying["visits"] = self.staying.get("visits", 0) + 1
    """

    _travelling: dict[str, Any]
    _kept: dict[str, dict[str, Any] | FileBacked]  # what stays, by site; of sites that wait it may lie in files
    _site: str | None
    _came_in: tuple[dict[str, Any], dict[str, Any]] | None  # with which the visit began, where it may be skipped
    _form: dict[str, str]
    _began: bool
    _device: torch.device

    def __new__(cls, *args: Any, **kwargs: Any) -> "VisitCallback":
        """Have state before, and also without, the constructor of a subclass."""
        callback = super().__new__(cls)
        callback._forget()
        return callback

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in _OURS:
            if inspect.getattr_static(cls, name) is not vars(VisitCallback)[name]:
                raise TypeError(
                    f"{cls.__name__} overrides {name}; a VisitCallback keeps what travels with the model in"
                    " self.travelling, and what stays at a site in self.staying"
                )

    def _forget(self) -> None:
        self._travelling, self._kept, self._site = {}, {}, None
        self._came_in, self._form, self._began, self._device = None, {}, False, torch.device("cpu")

    @property
    def travelling(self) -> dict[str, Any]:
        """The state that goes with the model. Its names, shapes and dtypes are those that ``begin_run`` sets."""
        return self._travelling

    @travelling.setter
    def travelling(self, state: dict[str, Any]) -> None:
        self._travelling = state

    @property
    def staying(self) -> dict[str, Any]:
        """The state that stays at the site of the visit under way; empty when the model comes there first.

        Raises:
            InputError: If no visit has begun, or in ``on_cycle_end`` if that comes after a merge, which is at no site.
        """
        self._kept[self._here] = kept = self.stays(self._here)
        return kept

    @staying.setter
    def staying(self, state: dict[str, Any]) -> None:
        self._kept[self._here] = state

    @property
    def _here(self) -> str:
        if self._site is None:
            raise InputError(f"{type(self).__name__} asks for what stays at a site outside any visit")
        return self._site

    def begin_run(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Called when a run begins, but not when it resumes: the place to set ``travelling``.

        Args:
            trainer: The trainer.
            pl_module: The module.
        """

    def on_visit_start(self, trainer: Trainer, pl_module: LightningModule, visit: Visit) -> None:
        """Called before a visit's first batch, but not when the visit resumes.

        Args:
            trainer: The trainer.
            pl_module: The module, with the weights that came in.
            visit: The visit.
        """

    def on_visit_end(self, trainer: Trainer, pl_module: LightningModule, visit: Visit) -> None:
        """Called after a visit's last batch, before its weights are hashed and handed on; it may change them.

        Args:
            trainer: The trainer.
            pl_module: The module.
            visit: The visit.
        """

    def on_cycle_end(self, trainer: Trainer, pl_module: LightningModule, visit: Visit) -> None:
        """Called after ``on_visit_end`` of a cycle's last visit; it may change the weights, too.

        Where the cycle ends with a merge, as in federated averaging, the module has the merged weights, and
        ``travelling`` is merged, too: its floating-point numbers are averaged as the weights are.

        Args:
            trainer: The trainer.
            pl_module: The module.
            visit: The visit.
        """

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._began:
            raise InputError(f"{type(self).__name__} takes part in visits; add a transfer callback, or leave it out")

    # -- for the transfer callback -----------------------------------------------------------------------------------

    def begin_fit(self, trainer: Trainer, new: bool, site: str | None) -> None:
        """Begin a run, or resume one.

        Args:
            trainer: The trainer.
            new: Whether the run begins.
            site: That of the visit under way, or of the last one.
        """
        if new or not self._began:
            self._forget()
            self.begin_run(trainer, trainer.lightning_module)
        self._settle(trainer.lightning_module)
        check_parts(self._kept)
        self._device = trainer.strategy.root_device
        self._travelling, self._kept = move_data_to_device((self._travelling, self._kept), self._device)
        self._began, self._site, self._form = True, site, form(self._travelling)

    def enter(self, site: str, keep: bool) -> None:
        """Begin a visit.

        Args:
            site: Its site.
            keep: Whether the state is to be kept as it is, for ``put_back``.
        """
        self.rest()
        self._site = site
        self._came_in = copy.deepcopy((self._travelling, self.staying)) if keep else None

    def rest(self) -> None:
        """Let what stays at the site wait for its next visit, perhaps in a file."""
        if self._site is not None and (kept := self._kept.pop(self._site, None)):
            self._kept[self._site] = file_backed(kept)

    def local_tensors(self, module: LightningModule) -> dict[str, Tensor]:
        """The module's tensors, by name, of which each site has its own: see ``lit_dist.visits.local_tensors``."""
        return {}

    def leave_site(self) -> None:
        """Leave the site of the last visit, before a merge: what stays there is out of reach."""
        self.rest()
        self._site = None

    def put_back(self) -> None:
        """Go back to the state with which the visit began."""
        if self._came_in is not None and self._site is not None:
            self._travelling, self._kept[self._site] = copy.deepcopy(self._came_in)

    def check(self, module: LightningModule) -> None:
        """Check after an event what both states hold, and that what travels has the form that it began with.

        Raises:
            InputError: If a checkpoint or a message could not hold it, it has another form, or it is not finite.
        """
        self._settle(module)
        if apart := difference(form(self._travelling), self._form):
            place, has, had = apart
            raise InputError(
                f"{type(self).__name__}.travelling has at {place!r} {has}, and had {had} when the run began; give it"
                " its form in begin_run"
            )

    def _settle(self, module: LightningModule) -> None:
        """Let both states hold values of their own, not the module's tensors, which training changes."""
        tensors = (*module.parameters(), *module.buffers())
        shared = {each.untyped_storage().data_ptr() for each in tensors if each.layout == torch.strided}
        name = type(self).__name__
        self._travelling = own_state(self._travelling, f"{name}.travelling", shared)
        if self._site is not None and not isinstance(kept := self._kept.get(self._site, {}), FileBacked):
            self._kept[self._site] = own_state(kept, f"{name}.staying", shared, travels=False)

    def travels(self) -> dict[str, Any]:
        """The state that crosses a transfer, in the form of ``state_dict``."""
        return {"travelling": self._travelling, "staying": {}, "came_in": None}

    def stays(self, site: str) -> dict[str, Any]:
        """The state that stays at a site."""
        kept = self._kept.get(site, {})
        return move_data_to_device(kept.get(), self._device) if isinstance(kept, FileBacked) else kept

    def put_staying(self, site: str, state: dict[str, Any]) -> None:
        """Give back what stayed at a site."""
        self._kept[site] = state

    @property
    @override
    def state_key(self) -> str:
        """The class and its plain arguments, so that several of one class can stand beside each other."""
        names = inspect.signature(type(self).__init__).parameters
        held = {name: vars(self)[name] for name in names if isinstance(vars(self).get(name), bool | int | float | str)}
        return self._generate_state_key(**held)

    @override
    def state_dict(self) -> dict[str, Any]:
        staying = {site: kept for site, kept in self._kept.items() if kept}
        return {"travelling": self._travelling, "staying": staying, "came_in": self._came_in}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._travelling = state_dict["travelling"]
        self._kept = {site: file_backed(kept) for site, kept in state_dict["staying"].items()}
        self._came_in, self._began = state_dict["came_in"], True


def visit_callbacks(trainer: Trainer) -> list[VisitCallback]:
    """Those of a trainer, in their order."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, VisitCallback)]


def travelling_bytes(trainer: Trainer) -> int:
    """The bytes of the tensors that travel beside the weights."""
    return sum(state_bytes(callback.travelling) for callback in visit_callbacks(trainer))


def local_names(trainer: Trainer, module: LightningModule) -> set[str]:
    """The names of a module's weights and buffers of which each site has its own, so that they are not handed on."""
    return {name for each in visit_callbacks(trainer) for name in each.local_tensors(module)}

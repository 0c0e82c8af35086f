"""What stays at a site between two partial fits: the optimizer's state, and the tensors of the transfer callback."""

from pathlib import Path
from typing import Any

from lit_dist.callbacks import WeightTransfer
from lit_dist.checkpoints.baton import read_checkpoint, write_checkpoint
from lit_dist.federation.refusal import Refusal
from lit_dist.federation.travelling_state import with_tensors
from lit_dist.federation.wire import Tree
from lit_dist.provenance.visit_account import transfer_state
from lit_dist.utils.file_backed import whole


class SiteState:
    """Keeps it in files, by the optimizer step, so that a partial fit can be repeated after a crash of either side.

    Args:
        folder: Of this run alone.
        site: The site's name.
        transfer: The run's transfer callback.
    """

    def __init__(self, folder: Path, site: str, transfer: WeightTransfer) -> None:
        self.folder = folder
        self.site = site
        self.transfer = transfer

    def keep(self, step: int, staying: Tree) -> None:
        """Keep what stays of a run's checkpoint after an optimizer step."""
        write_checkpoint(staying, self._path(step), finite=False)

    def join(self, baton: Tree, due: int, left_out: int | None, came_before: bool) -> Tree:
        """Put what stayed here to the baton that came in, as far as it belongs to it.

        Args:
            baton: The baton.
            due: The number of the visit that begins, or is resumed, now.
            left_out: The step after which the server continued without this site, if it has not heard of it since: what
                stayed later is of an answer that was not used.
            came_before: Whether the model was due at this site in an earlier visit of the run.

        Raises:
            Refusal: If what belongs to the visit, or stayed of the one before, is gone.
        """
        for later in (number for number in self._steps() if left_out is not None and number > left_out):
            self._path(later).unlink(missing_ok=True)
        step = baton["global_step"]
        account = transfer_state(baton, self.transfer.state_key)
        record = account["record"]
        last = step if left_out is None else min(step, left_out)  # the one up to which this site has trained
        # Of a visit without a step so far nothing is needed; the server may have begun it when nobody was here.
        under_way = record["visit"] is not None and record["visit"][0] == due and record["first_step"] < last
        stay = self._newest(last)
        if under_way and (stay is None or stay["step"] != last):
            raise Refusal(f"the visit cannot be resumed: what stayed here after step {last} of the run is gone")
        local = self.transfer.optimizer_state == "local"
        others = {name: each for name, each in baton["callbacks"].items() if name != self.transfer.state_key}
        if stay is None and (local or others) and came_before and left_out is None:  # else it may never have been here
            what = "the optimizer's state" if local else f"what {' and '.join(others)} kept"
            raise Refusal(
                f"{what} of its last visit in this run is gone; give the site the folder that it had then, or begin a"
                " new run"
            )
        if stay is None:
            return baton
        if under_way:
            account = with_tensors(account, stay["account"])
        states = baton["optimizer_states"]
        if local or (under_way and self.transfer.optimizer_state == "reset"):
            own = stay["account"]["optimizer_states"].get(self.site, stay["optimizer_states"])
            states = [{**state, "state": kept} for state, kept in zip(states, own, strict=True)]
        kept = stay.get("visit_callbacks", {})
        others = {name: {**kept.get(name, each), "travelling": each["travelling"]} for name, each in others.items()}
        return {**baton, "callbacks": {**others, self.transfer.state_key: account}, "optimizer_states": states}

    def staying(self, step: int) -> Tree:
        """What callbacks had left here by an optimizer step, by their keys."""
        steps = [number for number in self._steps() if number <= step]
        states = read_checkpoint(self._path(max(steps))).get("visit_callbacks", {}) if steps else {}
        return {key: whole(state["staying"].get(self.site, {})) for key, state in states.items()}

    def _newest(self, step: int) -> Tree | None:
        """What stayed last before a step of the run. What is newer is of a partial fit that is repeated."""
        steps = sorted(number for number in self._steps() if number <= step)
        if not steps:
            return None
        stay: dict[str, Any] = read_checkpoint(self._path(steps[-1]))
        for older in steps[:-1]:
            self._path(older).unlink(missing_ok=True)
        return {**stay, "step": steps[-1]}

    def _steps(self) -> list[int]:
        return [int(path.stem) for path in self.folder.glob("*.stay")]

    def _path(self, step: int) -> Path:
        return self.folder / f"{step:08d}.stay"

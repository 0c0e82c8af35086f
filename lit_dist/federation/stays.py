"""What stays at a site between two legs: the optimizer's state, and the tensors of the transfer callback."""

from pathlib import Path
from typing import Any

from lit_dist.baton import read_checkpoint, write_checkpoint
from lit_dist.callbacks import WeightTransfer
from lit_dist.federation.parcel import Tree, with_tensors
from lit_dist.federation.refusal import Refusal


class Stays:
    """Keeps it in files, by the optimizer step, so that a leg can be repeated after a crash of either side.

    Args:
        folder: Where.
        site: The site's name.
        transfer: The run's transfer callback.
    """

    def __init__(self, folder: Path, site: str, transfer: WeightTransfer) -> None:
        self.folder = folder
        self.site = site
        self.transfer = transfer

    def keep(self, state: Tree, staying: Tree) -> None:
        """Keep what stays of a checkpoint."""
        run = state["callbacks"][self.transfer.state_key]["record"]["run"]
        write_checkpoint({**staying, "run": run}, self._path(state["global_step"]), finite=False)

    def join(self, baton: Tree, left_out: int | None) -> Tree:
        """Put what stayed here to the baton that came in, as far as it belongs to it.

        Args:
            baton: The baton.
            left_out: The step after which the server went on without this site, if it has not heard of it since: what
                stayed later is of an answer that was not used.

        Raises:
            Refusal: If the visit is under way, and what belongs to it is gone.
        """
        if left_out is not None:
            self._forget_after(left_out)
        step = baton["global_step"]
        account = baton["callbacks"][self.transfer.state_key]
        record = account["record"]
        # Of a visit without a step so far nothing is needed; the server may have begun it when nobody was here.
        under_way = record["visit"] is not None and not record["ended"] and record["first_step"] < step
        stay = self._newest(record["run"], step)
        if under_way and (stay is None or stay["step"] != step):
            raise Refusal(f"the visit cannot go on: what stayed here after step {step} of the run is gone")
        if stay is None:
            return baton
        if under_way:
            account = with_tensors(account, stay["account"])
        states = baton["optimizer_states"]
        if self.transfer.optimizer_state == "local" or (under_way and self.transfer.optimizer_state == "reset"):
            own = stay["account"]["optimizer_states"].get(self.site, stay["optimizer_states"])
            states = [{**state, "state": kept} for state, kept in zip(states, own, strict=True)]
        return {**baton, "callbacks": {self.transfer.state_key: account}, "optimizer_states": states}

    def _newest(self, run: str, step: int) -> Tree | None:
        """What stayed last before a step of the run. What is newer is of a leg that is repeated."""
        steps = sorted(self._steps(), reverse=True)
        for before in (number for number in steps if number <= step):
            stay: dict[str, Any] = read_checkpoint(self._path(before))
            if stay["run"] == run:
                for older in (number for number in steps if number < before):
                    self._path(older).unlink(missing_ok=True)
                return {**stay, "step": before}
        return None

    def _forget_after(self, step: int) -> None:
        for later in (number for number in self._steps() if number > step):
            self._path(later).unlink(missing_ok=True)

    def _steps(self) -> list[int]:
        return [int(path.stem) for path in self.folder.glob("*.stay")]

    def _path(self, step: int) -> Path:
        return self.folder / f"{step:08d}.stay"

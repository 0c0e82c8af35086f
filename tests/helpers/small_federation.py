"""A federation in one process, whose sites have only their own images, and the simulation that it must equal."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from lit_dist import ImageClassifier, SafetensorsCheckpointIO
from lit_dist.callbacks import CyclicalWeightTransfer, WeightTransfer
from lit_dist.datamodules import PhantomDataModule
from lit_dist.federation.client import Parts
from lit_dist.federation.engine import NoAnswerError
from lit_dist.federation.refusal import Refusal
from lit_dist.federation.roster import Absent, Roster
from lit_dist.federation.server import Server
from lit_dist.federation.transfer_client import TransferClient
from lit_dist.federation.wire import Message, pack, unpack
from lit_dist.provenance.entry import Entry
from lit_dist.provenance.ledger import read_entries

SITES = ["site-1", "site-2", "site-3"]


def module() -> ImageClassifier:
    pl.seed_everything(0, verbose=False)
    return ImageClassifier("slim_resnet18", dropout=0.2, backbone_kwargs={"width": 8})


def data(**kwargs: Any) -> PhantomDataModule:
    return PhantomDataModule(sites=3, patients=24, size=32, batch_size=5, **kwargs)


def trainer(folder: Path, *callbacks: Callback, **kwargs: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    defaults = {**quiet, "enable_checkpointing": False, "max_epochs": 6, "num_sanity_val_steps": 0}
    io = {"plugins": [SafetensorsCheckpointIO()]}
    return pl.Trainer(**{**defaults, **io, **kwargs}, default_root_dir=folder, callbacks=list(callbacks))


class InProcess:
    """An engine that calls the sites. A test may change what they answer, or let one give no answer."""

    def __init__(self, parties: dict[str, Any]) -> None:
        self.parties = parties
        self.asked: list[str] = []
        self.content: list[Message] = []
        self.change: Callable[[str, str, Message], Message] = lambda question, site, answer: answer
        self.silent: Callable[[str, str], bool] = lambda question, site: False

    def tamper(self, question: str, site: str | None, lie: Callable[[Any], object]) -> None:
        """Let the answers of a site, or of all, to a question be changed on their way to the server."""

        def change(asked: str, who: str, answer: Message) -> Message:
            if asked != question or site not in (who, None):
                return answer
            tree = unpack(answer)
            lie(tree)
            return pack(tree)

        self.change = change

    def ask(self, question: str, content: Message, sites: Sequence[str]) -> dict[str, Message]:
        self.asked.append(question)
        silent = [site for site in sites if self.silent(question, site)]
        given = {site: self.parties[site].answer(question, content) for site in sites if site not in silent}
        self.content += [content, *given.values()]
        # In another order than that of the sites, as answers come over a network.
        answers = {site: self.change(question, site, given[site]) for site in reversed(list(given))}
        if silent:
            raise NoAnswerError(f"site {silent[0]!r} gave no answer", silent, answers)
        return answers


def kill_at(parties: InProcess, visit: int) -> None:
    """Let the server die when the answer of a training question comes, the first of which is number 1."""
    asked = 0

    def change(question: str, site: str, answer: Message) -> Message:
        nonlocal asked
        asked += question == "train"
        if question == "train" and asked == visit:
            raise KeyboardInterrupt
        return answer

    parties.change = change


def one_that_refuses() -> TransferClient:
    """A party of two processes, the second of which cannot be made; the first waits for it."""
    if os.environ["LOCAL_RANK"] == "1":
        raise Refusal("the second one cannot")
    two = trainer(Path("site-1"), CyclicalWeightTransfer(every_n_epochs=1), devices=2, strategy="ddp")
    return TransferClient("site-1", Parts(two, module(), data(only_site="site-1")))


def simulate(
    make: Callable[[], WeightTransfer], *callbacks: Callback, checkpoint: Path | None = None, **kwargs: Any
) -> list[Entry]:
    trainer(Path("simulated"), make(), *callbacks, **kwargs).fit(module(), data(), ckpt_path=checkpoint)
    return read_entries(Path("simulated/ledger.jsonl"))


def engine(make: Callable[[], WeightTransfer], *callbacks: Callable[[], Callback], **kwargs: Any) -> InProcess:
    def parts(site: str) -> Parts:
        own = [make(), *(callback() for callback in callbacks)]
        return Parts(trainer(Path(site), *own, **kwargs), module(), data(only_site=site))

    return InProcess({site: TransferClient(site, parts(site)) for site in SITES})


def server(
    parties: InProcess,
    make: Callable[[], WeightTransfer],
    *callbacks: Callback,
    absent: Absent = "retry",
    **kwargs: Any,
) -> Server:
    return Server(Roster(parties, SITES, absent), trainer(Path("server"), make(), *callbacks, **kwargs), module())


def federated() -> list[Entry]:
    return read_entries(Path("server/ledger.jsonl"))

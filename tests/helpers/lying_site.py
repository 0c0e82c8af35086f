"""A site that lies, in a federation whose honest answers are known, so that no lie takes any training."""

import copy
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from uuid import UUID

import torch
from torch import Tensor

from lit_dist.callbacks import RunCheckpoint, WeightTransfer
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.checkpoints.run_folder import newest_checkpoint
from lit_dist.federation.wire import Message, pack, unpack
from lit_dist.provenance.entry import Entry
from lit_dist.utils.errors import InputError
from small_federation import InProcess, engine, federated, server

Key = tuple[Any, ...]
Place = tuple[Any, ...]
FACTS = ("visit", "cycle", "site", "outcome", "steps", "sha256_in", "sha256_out", "settings", "bytes")


@dataclass(frozen=True)
class Honest:
    """A run without a lie: its answers, and what it came to."""

    make: Callable[[], WeightTransfer]
    settings: dict[str, Any]
    answers: dict[Key, Message]
    facts: list[tuple[Any, ...]]
    final: str


def honest_run(make: Callable[[], WeightTransfer], settings: dict[str, Any]) -> Honest:
    parties = engine(make, **settings)
    answers: dict[Key, Message] = {}
    ask = parties.ask

    def recorded(question: str, content: Message, sites: Any) -> dict[str, Message]:
        given = ask(question, content, sites)
        answers.update({key_of(question, site, content): answer for site, answer in given.items()})
        return given

    parties.ask = recorded  # type: ignore[method-assign]
    facts, final = _run(parties, make, settings)
    shutil.rmtree("server")
    return Honest(make, settings, answers, facts, final)


class Replay(InProcess):
    """Gives the answers of the honest run; one that was not asked for in it shows that a lie has changed the run."""

    def __init__(self, honest: Honest) -> None:
        super().__init__({})
        self.honest = honest

    def ask(self, question: str, content: Message, sites: Any) -> dict[str, Message]:
        given = {site: self.honest.answers[key_of(question, site, content)] for site in sites}
        if question == "train":
            given = {site: _chained(answer, content) for site, answer in given.items()}
        return {site: self.change(question, site, answer) for site, answer in given.items()}


def _chained(answer: Message, content: Message) -> Message:
    """An answer whose lines follow the ledger's last: that of a visit may tell of other metrics or times."""
    tree = unpack(answer)
    [before] = unpack(content)["baton"]["callbacks"].values()
    head = before["record"]["head"]
    for number, line in enumerate(tree["entries"]):
        entry = replace(Entry.parse(line), previous=head)
        tree["entries"][number], head = entry.line, entry.sha256
    [after] = tree["baton"]["callbacks"].values()
    after["record"]["head"] = head
    return pack(tree)


def key_of(question: str, site: str, content: Message) -> Key:
    """What a question is, but for times."""
    tree = unpack(content)
    if question == "train":
        baton = tree["baton"]
        plain = {name: baton[name] for name in ("loops", "lr_schedulers", "optimizer_states")}
        plain["loops"] = plain["loops"]["fit_loop"]
        groups = [each["param_groups"] for each in plain.pop("optimizer_states")]
        return question, site, tree["visit"], fingerprint(baton["state_dict"])[0], repr((plain, groups))
    return question, site, fingerprint(tree["state_dict"])[0] if "state_dict" in tree else ""


def _run(parties: InProcess, make: Any, settings: dict[str, Any]) -> tuple[list[tuple[Any, ...]], str]:
    newest = newest_checkpoint("server") if Path("server/checkpoints").exists() else None
    clock = SimpleNamespace(monotonic=lambda: 0.0)  # ledgers' hashes are of times, too
    ids = patch("lit_dist.provenance.ledger_writer.uuid.uuid4", lambda: UUID(int=7))
    with ids, patch("lit_dist.provenance.ledger_writer.time", clock):
        run = server(parties, make, RunCheckpoint(), enable_checkpointing=True, **settings)
        run.run(newest)
    facts = [tuple(getattr(entry, name) for name in FACTS) for entry in federated()]
    return facts, fingerprint(run.module.state_dict())[0]


def tell(honest: Honest, question: str, site: str, number: int, lie: Callable[[Any], Any]) -> str | None:
    """Make a run in which a site lies once, and resume it without lies; both must come to the honest result.

    Returns:
        With what the lie was refused; None if the run came to the honest result.
    """
    shutil.rmtree("server", ignore_errors=True)
    parties = Replay(honest)
    asked = 0

    def change(what: str, who: str, answer: Message) -> Message:
        nonlocal asked
        asked += (what, who) == (question, site)
        if (what, who) != (question, site) or asked != number + 1:
            return answer
        tree = unpack(answer)
        return pack(lie(tree) or tree)

    parties.change = change
    said = None
    try:
        assert _run(parties, honest.make, honest.settings) == (honest.facts, honest.final)
    except InputError as error:
        said = str(error)
        assert site in said or "would not train alike" in said or "numbers of classes" in said, said
        assert len(said) < 5000
        assert said.replace("\n", "").isprintable()
    if said is not None:
        assert _run(Replay(honest), honest.make, honest.settings) == (honest.facts, honest.final)
    return said


def places(tree: Any, at: Place = ()) -> Iterator[Place]:
    """The places of all values in nested ones."""
    if at:
        yield at
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else ()
    for name, value in pairs:
        yield from places(value, (*at, name))


def value_at(tree: Any, place: Place) -> Any:
    for name in place:
        tree = tree[name]
    return tree


def put(tree: Any, place: Place, value: Any) -> Any:
    """Nested values with another one at a place; ``DROPPED`` leaves it out."""
    if not place:
        return value
    name, rest = place[0], place[1:]
    if isinstance(tree, dict):
        changed = {key: put(old, rest, value) if key == name else old for key, old in tree.items()}
        return {key: new for key, new in changed.items() if new is not DROPPED}
    changed = [put(old, rest, value) if number == name else old for number, old in enumerate(tree)]
    return type(tree)(new for new in changed if new is not DROPPED)


DROPPED = object()
DEEP: Any = []
for _ in range(300):
    DEEP = [DEEP]
ANY: list[Any] = [
    *(None, True, -1, 10**6, 10**400, math.nan, math.inf, -1e308, "", "x" * 10**5, "\x1b[2J[/]\n", b"\0"),
    *([], {}, {"more": 1}, (), DEEP, torch.tensor(math.nan), torch.zeros(10**4), torch.zeros(0), DROPPED),
]


def others(value: Any) -> list[Any]:
    """Other values in the place of one."""
    more: list[Any] = []
    if isinstance(value, Tensor) and value.is_floating_point():
        nan = value.clone()
        nan.view(-1)[:1] = math.nan
        more = [nan, value.double(), value[None], value.half(), torch.full_like(value, math.inf)]
    elif isinstance(value, Tensor):
        more = [value - 10**9, value.float()]
    elif isinstance(value, bool):
        more = [not value, int(value)]
    elif isinstance(value, int | float):
        more = [value + 1, -value - 1, value * 1000 + 7, str(value)]
    elif isinstance(value, str):
        more = [value + "x", value[:-1]]
    elif isinstance(value, dict):
        more = [{**copy.copy(value), "more": 1}, {**value, -1: value}, list(value.values())]
    elif isinstance(value, list | tuple):
        more = [type(value)([*value, *value]), type(value)(value[1:])]
    return [*more, *ANY]

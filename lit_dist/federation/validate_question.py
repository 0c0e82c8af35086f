"""What must hold of a server's question before a site uses it; else it is refused by name."""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

from torch.optim import Optimizer

from lit_dist.callbacks import WeightTransfer
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.federation.limits import LONGEST
from lit_dist.federation.refusal import Refusal
from lit_dist.federation.travelling_state import OF_SERVER, SCALE, is_scale
from lit_dist.federation.validate_optimizers import check_groups, check_states
from lit_dist.federation.validate_weights import check_callbacks, check_received_weights
from lit_dist.federation.wire import SMALL, TEXT, Tree, size
from lit_dist.provenance.entry import Entry
from lit_dist.provenance.visit_account import MergingState, transfer_state
from lit_dist.utils.errors import InputError
from lit_dist.utils.plain_bounds import (
    MALFORMED,
    alike,
    is_count,
    is_hash,
    is_name,
    is_number,
    is_plain,
    said,
    same,
    shown,
)

MOST_SITES = 1000
"""The greatest number of sites of a run, and of members of an ensemble."""

_MOST_BATCHES = 2**20


def check_size(question: str, content: Sequence[bytes], weights: int) -> None:
    """Raise ``Refusal`` for a question that is too long to be read.

    Args:
        question: Its name.
        content: The question, packed.
        weights: The bytes of the weights of the site's own module.
    """
    times = {"train": 5, "validate": 1, "fit": 1, "judge": MOST_SITES}.get(question, 0)
    most = times * weights + (TEXT if times else SMALL)
    if size(content) > most:
        raise Refusal(f"the server's question {question!r} has {size(content)} bytes; {most} are the most")


def named(check: Callable[..., Any]) -> Callable[..., Any]:
    """Let whatever a check does not expect be a refusal, too."""

    @wraps(check)
    def checked(*args: Any, **kwargs: Any) -> Any:
        try:
            return check(*args, **kwargs)
        except Refusal:
            raise
        except InputError as error:
            raise Refusal(f"the server's question cannot be used: {error}") from None
        except MALFORMED as error:
            raise Refusal(f"the server's question has another form ({type(error).__name__})") from error

    return checked


def check_names(content: Tree, names: set[str]) -> None:
    """Raise ``Refusal`` for a question that lacks something, or has more than belongs to it."""
    if content.keys() != names:
        raise Refusal(f"the server's question has {_listed(content)}, where {_listed(names)} belong")


def _listed(names: Any) -> str:
    return ", ".join(sorted(said(name, 50) for name in list(names)[:20])) or "nothing"


@named
def check_batches(batches: Any, site: str) -> None:
    """Raise ``Refusal`` unless all sites' batches are numbers by the names of sites, this one among them."""
    if not isinstance(batches, dict) or len(batches) > MOST_SITES:
        raise Refusal(f"the server's question has no batches by site, or those of more than {MOST_SITES} sites")
    for name, number in batches.items():
        if not is_name(name) or not is_count(number) or not 0 < number <= _MOST_BATCHES:
            raise Refusal(f"the server's question has {shown(number)} batches of the site {shown(name)}")
    if site not in batches:
        raise Refusal(f"the server's question has no batches of this site, {site!r}")


@named
def check_sent_weights(found: Any, own: Tree, what: str) -> Tree:
    """The weights to put into a site's own module; ``Refusal`` for others than finite ones of its form."""
    try:
        return check_received_weights(found, own)
    except InputError as error:
        raise Refusal(f"{what} do not fit: {error}") from None


@named
def check_step(step: int, left_out: Any, site: str) -> int:
    """The optimizer step up to which what stayed at a site counts, by the server's step and who was left out since."""
    if not is_count(step) or not isinstance(left_out, dict) or len(left_out) > MOST_SITES:
        raise Refusal("the server's question has another form: its step, or who was left out")
    if not all(is_name(name) and is_count(since) for name, since in left_out.items()):
        raise Refusal("the server's question has another form: left_out is not optimizer steps by site")
    since: int = left_out.get(site, step)
    return min(since, step)


@named
def check_members(members: Any, own: Tree) -> dict[str, Tree]:
    """The models that a site is to judge; ``Refusal`` for too many, or that do not fit the site's own module."""
    if not isinstance(members, dict) or not 0 < len(members) <= MOST_SITES or not all(map(is_name, members)):
        raise Refusal(f"the server's question has no models by name, or more than {MOST_SITES}")
    return {name: check_sent_weights(weights, own, f"the weights of {name!r}") for name, weights in members.items()}


@named
def check_train(
    content: Tree, weights: Tree, own: Tree, transfer: WeightTransfer, optimizers: Sequence[Optimizer]
) -> Tree:
    """Check a baton and what belongs to it.

    Args:
        content: The question, whose names and batches are checked.
        weights: The weights of the site's own module.
        own: The baton of a fit that begins here, whose form the server's has.
        transfer: The site's transfer callback.
        optimizers: The site's optimizers.

    Returns:
        The baton to continue from.

    Raises:
        Refusal: If something is missing, or of another type or size than it can be.
    """
    baton, visit, left_out = content["baton"], content["visit"], content["left_out"]
    if not is_count(visit) or visit > LONGEST:
        raise Refusal(f"the server asks for visit {shown(visit)}; a run has {LONGEST} at most")
    if left_out is not None and not is_count(left_out):
        raise Refusal("the server's question has another form: left_out is not an optimizer step")
    check_names({name: value for name, value in baton.items() if name != SCALE}, own.keys() - {SCALE})
    if not is_count(baton["epoch"]) or not is_count(baton["global_step"]):
        raise Refusal("the server's baton has another form: its epoch and step are not counts")
    if baton["pytorch-lightning_version"] != own["pytorch-lightning_version"]:
        raise Refusal("the server's baton is of another version of Lightning")
    loops = _check_loops(baton["loops"], own["loops"])
    if not alike(baton["lr_schedulers"], own["lr_schedulers"]):
        raise Refusal("the server's baton has another form: its schedules are not those of the run's settings")
    check_groups(baton["optimizer_states"], own["optimizer_states"], optimizers, exact=False)
    carried = transfer.optimizer_state == "carry"
    if carried:
        before: list[Tree] = [{"state": {}} for _ in baton["optimizer_states"]]
        check_states(baton["optimizer_states"], before, optimizers, baton["global_step"])
    elif any(state["state"] != {} for state in baton["optimizer_states"]):
        raise Refusal("the server's baton has an optimizer's state, which stays at the sites in this run")
    if SCALE in baton and not is_scale(baton[SCALE]):
        raise Refusal("the server's baton has another form: the scale of the gradients")
    _check_account(baton, own, transfer.state_key)
    weights = check_sent_weights(baton["state_dict"], weights, "the weights of the server's baton")
    record = transfer_state(baton, transfer.state_key)["record"]
    goes_on = record["visit"] is None or (record["visit"][0] == visit and not record["ended"])
    if not goes_on and fingerprint(weights)[0] != record["sha256_out"]:
        raise Refusal("the weights of the server's baton are not those that the visit before ended with")
    return {**baton, "state_dict": weights, "loops": loops}


def _check_loops(found: Any, own: Tree) -> Tree:
    loop, usual = dict(found["fit_loop"]), dict(own["fit_loop"])
    place = loop.pop("state_dict")
    usual.pop("state_dict")
    drawn: list[Any] = place.get("combined_loader", [])
    fits = place.keys() <= {"combined_loader"} and len(drawn) <= 1
    fits = fits and all(each.keys() == {"drawn"} and is_count(each["drawn"]) for each in drawn)
    if not fits or not alike(loop, usual):
        raise Refusal("the server's baton has another form: its progress is not that of a fit")
    if loop["epoch_progress"]["total"]["processed"] > LONGEST:
        raise Refusal(f"the server's baton is beyond epoch {LONGEST}")
    return {**own, "fit_loop": found["fit_loop"]}


def _check_account(found: Tree, own: Tree, key: str) -> None:
    if found["callbacks"].keys() != own["callbacks"].keys():
        raise Refusal("the server's baton has the states of other callbacks than the run's")
    if found["callbacks"][key].keys() != own["callbacks"][key].keys():
        raise Refusal("the server's baton has the account of another transfer callback")
    check_callbacks(found["callbacks"], own["callbacks"], key)
    account: Mapping[str, Any] = transfer_state(found, key)  # whose types are to be seen
    record, usual = account["record"], transfer_state(own, key)
    if account["optimizer_states"] != {} or record.keys() != usual["record"].keys():
        raise Refusal("the server's baton has another form: its account of the visit")
    start, end = record["rates"]
    visit, waiting = record["visit"], record["waiting"]
    fits = type(record["ended"]) is bool and is_count(record["images"]) and is_count(record["first_step"])
    fits = fits and all(map(is_number, (record["seconds"], *start, *end))) and len(start) == len(end) <= MOST_SITES
    fits = fits and all(record[name] == "" or is_hash(record[name]) for name in ("sha256_in", "sha256_out", "head"))
    fits = fits and (visit is None or (is_count(visit[0]) and is_count(visit[1]) and is_name(visit[2])))
    fits = fits and (visit is None or (type(visit) is tuple and len(visit) == 3))
    if waiting is not None:
        Entry.parse(Entry(**waiting).line)
    if not fits:
        raise Refusal("the server's baton has another form: its account of the visit")
    divergence = account["divergence"]
    if divergence.keys() != usual["divergence"].keys() or type(divergence["skipping"]) is not bool:
        raise Refusal("the server's baton has another form: its account of a divergence")
    if "merging" in account:
        _check_round(account["merging"], own)
    rest = {name: value for name, value in account.items() if name not in ("record", "optimizer_states")}
    if not is_plain(rest, lambda leaf: type(leaf) in (int, float) or (isinstance(leaf, str) and len(leaf) < SMALL)):
        raise Refusal("the server's baton has another form: its account of the heuristic")


def _check_round(merging: Any, own: Tree) -> None:
    """Check what a site is told of a round: where its schedules go on, and a visit that the run's end has cut short."""
    schedules, ended = merging["schedules"], merging["ended"]
    usual = {
        "schedulers": own["lr_schedulers"],
        "groups": [
            [{name: value for name, value in group.items() if name != "params"} for group in state["param_groups"]]
            for state in own["optimizer_states"]
        ],
    }
    fits = merging.keys() == MergingState.__annotations__.keys() and all(
        same(merging[name], OF_SERVER[name]) for name in OF_SERVER
    )
    fits = fits and (schedules is None or alike(schedules, usual))
    fits = fits and type(merging["branch"]) is bool and is_count(merging["images"])
    if ended is not None:
        visit, outcome, images, sha256 = ended
        fits = fits and type(ended) is tuple and outcome == "cut short" and is_hash(sha256)
        fits = fits and is_count(visit) and is_count(images)
    if not fits:
        raise Refusal("the server's baton has another form: its account of the round")

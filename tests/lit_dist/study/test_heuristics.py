"""What a study's ``heuristics`` may hold, and what is said of what they may not."""

from typing import Any

import pytest

from lit_dist import InputError
from lit_dist.study.heuristics import KINDS, OWN, Heuristic, read_heuristics

CYCLICAL: dict[str, Any] = {"class_path": "CyclicalWeightTransfer", "init_args": {"every_n_epochs": 1}}
PROX = {"class_path": "FedProx", "init_args": {"mu": 0.1}}
VISITS = [CYCLICAL, PROX]


def named(name: Any = "mine", **more: Any) -> dict[str, Any]:
    return {"name": name, "callbacks": VISITS, **more}


def test_short_names_stay_what_they_are() -> None:
    found = read_heuristics(list(KINDS))
    assert found == [Heuristic(kind, kind, []) for kind in KINDS]
    assert [each.plain() for each in found] == list(KINDS)


def test_a_name_of_ones_own_has_its_callbacks_with_all_their_settings() -> None:
    [found] = read_heuristics([named("cyclical with FedProx")])
    assert (found.name, found.kind) == ("cyclical with FedProx", OWN)
    transfer, prox = found.callbacks
    assert prox == {"class_path": "lit_dist.callbacks.FedProx", "init_args": {"mu": 0.1}}
    assert transfer["init_args"]["optimizer_state"] == "reset"
    assert transfer["init_args"]["validation"] == "cycle", "as for the short name"
    assert read_heuristics([found.plain()]) == [found]


def test_validation_is_left_where_it_was_given() -> None:
    transfer = {**CYCLICAL, "init_args": {"every_n_epochs": 1, "validation": "trainer"}}
    [found] = read_heuristics([named(callbacks=[transfer])])
    assert found.callbacks[0]["init_args"]["validation"] == "trainer"


def test_callbacks_may_be_added_to_a_short_name() -> None:
    timer = {"class_path": "lightning.pytorch.callbacks.Timer", "init_args": {"duration": "00:01:00:00"}}
    for kind in KINDS:
        [found] = read_heuristics([{"name": f"{kind} timed", "heuristic": kind, "callbacks": timer}])
        assert (found.name, found.kind) == (f"{kind} timed", kind)
        assert [each["class_path"] for each in found.callbacks] == [timer["class_path"]]
    assert read_heuristics([{"name": "plain", "heuristic": "central"}])[0].callbacks == []


def test_the_same_under_two_names_is_said() -> None:
    with pytest.raises(InputError, match=r"heuristics\[1\]: 'plain' has the same settings as 'central'; leave one out"):
        read_heuristics(["central", {"name": "plain", "heuristic": "central"}])


def test_each_combination_of_a_grid_is_a_heuristic_with_its_own_name() -> None:
    grid = {"FedProx.mu": [0, 0.1], "CyclicalWeightTransfer.order": ["shuffled", ["b", "a"]]}
    found = read_heuristics([named(grid=grid), "central"])
    names = [f"mine, mu={mu}, order={order}" for mu in ("0", "0.1") for order in ("shuffled", '["b", "a"]')]
    assert [each.name for each in found] == [*names, "central"]
    given = [(each.callbacks[1]["init_args"]["mu"], each.callbacks[0]["init_args"]["order"]) for each in found[:-1]]
    assert given == [(0, "shuffled"), (0, ["b", "a"]), (0.1, "shuffled"), (0.1, ["b", "a"])]
    assert read_heuristics([each.plain() for each in found]) == found


def test_a_grid_reaches_callbacks_that_are_named_alone_and_settings_within_settings() -> None:
    found = read_heuristics([named(callbacks=[CYCLICAL, "FedProx"], grid={"FedProx.mu": [0.5]})])
    assert found[0].callbacks[1]["init_args"] == {"mu": 0.5}
    devices = {"class_path": "RichProgressBar", "init_args": {"console_kwargs": {"width": 10}}}
    [one, two] = read_heuristics(
        [named(callbacks=[CYCLICAL, devices], grid={"RichProgressBar.console_kwargs.width": [20, 30]})]
    )
    assert [each.callbacks[1]["init_args"]["console_kwargs"] for each in (one, two)] == [{"width": 20}, {"width": 30}]


BAD: list[tuple[Any, str]] = [
    ([], "heuristics is empty"),
    (["voting"], r"heuristics\[0\] is voting, which is not one of central, single"),
    (["centrall"], "did you mean central"),
    ([None], r"heuristics\[0\] is null, which is not one of"),
    (["central", 3], r"heuristics\[1\] is 3"),
    ([["central"]], r'heuristics\[0\] is \["central"\]'),
    (["central", "central"], r"heuristics\[1\]: the name 'central' stands twice"),
    ([{}], r"heuristics\[0\]\.name is null"),
    ([named(None)], r"heuristics\[0\]\.name is null; give it the name"),
    ([named(3)], r"\.name is 3; give it the name for tables and figures, as text"),
    ([named("")], r"\.name is ''; give one that can be printed"),
    ([named(" a")], r"\.name is ' a'; give one"),
    ([named("a\nb")], r"\.name is 'a\\nb'; give one"),
    ([named("a\u202eb")], "can be printed"),
    ([named("a" * 101)], "of 101 characters; give at most 100"),
    ([named("central")], r"\.name is 'central', but 'central' is a short name's"),
    ([named("Single Institution")], "but 'single institution' is a short name's"),
    ([named("a"), named("a")], r"heuristics\[1\]: the name 'a' stands twice"),
    ([named("Straße"), named("STRASSE")], "'STRASSE' differs from 'Straße' in no more than its writing"),
    ([named("caf\u00e9"), named("cafe\u0301")], "in no more than its writing"),
    ([{"nam": "a", "callbacks": VISITS}], r"heuristics\[0\] has 'nam', but takes name.*did you mean name"),
    ([named(heuristic="voting")], r"\.heuristic is voting, which is not one of"),
    ([named(callbacks=[])], r"heuristics\[0\] 'mine' has no callbacks, and no heuristic out of central"),
    ([named(callbacks=None)], "has no callbacks"),
    ([named(callbacks=[PROX])], r"heuristics\[0\] 'mine' has no transfer callback: add one"),
    ([named(callbacks=[CYCLICAL, CYCLICAL])], "has CyclicalWeightTransfer beside the transfer that it has already"),
    ([named(heuristic="cyclical_weight_transfer")], "beside the transfer that it has already"),
    ([named(heuristic="central")], r"'mine' is central, so no model travels; leave CyclicalWeightTransfer out"),
    ([named(heuristic="central", callbacks=[PROX])], "is central, which has no visits, so FedProx has no part in it"),
    ([named(heuristic="single", callbacks=["SiteEvaluation"])], "so SiteEvaluation has no part in it"),
    ([named(callbacks=[CYCLICAL, PROX, PROX])], "two of FedProx that a checkpoint could not tell apart"),
    ([named(callbacks=[CYCLICAL, None])], r"heuristics\[0\]\.callbacks\[1\] is None; give a callback's class_path"),
    ([named(callbacks=[CYCLICAL, [PROX]])], r"callbacks\[1\] is \[.*give a callback's class_path"),
    ([named(callbacks=[CYCLICAL, {"class_path": None}])], r"callbacks\[1\] is .*give a callback's class_path"),
    ([named(callbacks=[CYCLICAL, {"class_path": "FedProx", "mu": 1}])], r"callbacks\[1\] has 'mu' beside class_path"),
    ([named(callbacks=[CYCLICAL, {"class_path": "FedProx", "init_args": None}])], r"callbacks\[1\]\.init_args is None"),
    (
        [named(callbacks=[CYCLICAL, "FedProxx"])],
        r"heuristics\[0\]\.callbacks\[1\]: there is no class FedProxx; did you",
    ),
    (
        [named(callbacks=[CYCLICAL, "torch.nn.Linear"])],
        r"callbacks\[1\]: torch\.nn\.Linear is not a subclass of Callback",
    ),
    ([named(callbacks=[CYCLICAL, "os.system"])], r"callbacks\[1\]: os\.system is nothing that a run is made of"),
    ([named(callbacks=[CYCLICAL, "EarlyStopping"])], r"callbacks\[1\]: .*required: monitor"),
    ([named(callbacks=[CYCLICAL, {"class_path": "FedProx", "init_args": {"muu": 1}}])], "did you mean mu"),
    ([named(callbacks=[CYCLICAL, {"class_path": "FedProx", "init_args": {"mu": "x"}}])], "x, which is not a number"),
    ([named(callbacks=[CYCLICAL, {"class_path": "FedProx", "init_args": {"mu": -1}}])], r"callbacks\[1\]: mu=-1"),
    ([named(callbacks=["CyclicalWeightTransfer"])], r"callbacks\[0\]: give every_n_epochs or every_n_steps"),
    ([named(callbacks=["WeightTransfer"])], r"callbacks\[0\]"),
    ([named(callbacks="no/file.yaml")], r"callbacks\[0\]"),
    ([named(grid=[])], r"heuristics\[0\]\.grid is \[\]; give lists of values by their settings"),
    ([named(grid={})], r"\.grid is \{\}; give lists"),
    ([named(grid={"FedProx.mu": 1})], r"grid\.FedProx\.mu is 1; give a list of the values"),
    ([named(grid={"FedProx.mu": []})], r"grid\.FedProx\.mu is \[\]; give a list"),
    ([named(grid={"FedProx.mu": None})], r"grid\.FedProx\.mu is null; give a list"),
    ([named(grid={"FedProx.mu": [1, 1]})], "has a value twice: 1, 1"),
    ([named(grid={"FedProx.mu": [1, 1.0]})], "'mine, mu=1.0' has the same settings as 'mine, mu=1'"),
    ([named(grid={"FedProx.mu": {"FedProx.mu": [1]}})], "give a list of the values"),
    ([named(grid={"FedProx.muu": [1]})], "muu of FedProx; did you mean mu"),
    ([named(grid={"mu": [1]})], "grid names 'mu'; give CLASS.SETTING of one of its callbacks: there are Cyclical"),
    ([named(grid={3: [1]})], "grid names 3; give CLASS.SETTING"),
    ([named(grid={"EWC.mu": [1]})], "grid names 'EWC.mu'; give CLASS.SETTING"),
    ([named(callbacks=[*VISITS, PROX], grid={"FedProx.mu": [1]})], "two are of that class"),
    ([named(grid={"FedProx.a.b": [1]})], "grid names 'FedProx.a.b', but FedProx was given no 'a'"),
    ([named(grid={"FedProx.mu": list(range(1001))})], "has 1001 combinations, which is more than 1000"),
    ([named(grid={"FedProx.mu": [0]}), named("mine, mu=0")], "the name 'mine, mu=0' stands twice"),
]


@pytest.mark.parametrize(("given", "message"), BAD)
def test_what_is_no_heuristic_is_refused_with_its_place(given: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_heuristics(given)


def test_what_all_runs_share_counts() -> None:
    with pytest.raises(InputError, match=r"heuristics\[0\] 'mine' has CyclicalWeightTransfer beside the transfer"):
        read_heuristics([named()], ["SingleWeightTransfer"])
    with pytest.raises(InputError, match=r"heuristics\[0\] is single, so no model travels; leave Cyclical"):
        read_heuristics(["single"], [CYCLICAL])
    with pytest.raises(InputError, match=r"trainer\.callbacks\[0\]: there is no class Nothing"):
        read_heuristics(["central"], ["Nothing"])

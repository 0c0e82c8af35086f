import re
from typing import Any

import pytest

from lit_dist import InputError
from lit_dist.study.plan import make_plan
from lit_dist.study.run import Run
from small_study import SMALL, settings


def plan(**changes: Any) -> list[Run]:
    return make_plan(settings(**changes))


def callbacks(run: Run) -> dict[str, dict[str, Any]]:
    given = run.config["trainer"]["callbacks"]
    return {each["class_path"].rpartition(".")[2]: each["init_args"] for each in given}


def test_each_heuristic_has_its_runs_and_none_is_there_twice() -> None:
    runs = plan(seeds=[0, 1], orders=["fixed", "shuffled"], optimizer_states=["reset", "carry"])
    counts: dict[str, int] = {}
    for run in runs:
        counts[run.heuristic] = counts.get(run.heuristic, 0) + 1
    # two seeds; two sites; two orders and two states; and two lengths of a visit
    assert counts == {
        "central": 2, "single": 4, "ensemble": 2, "single_weight_transfer": 8, "cyclical_weight_transfer": 16,
    }  # fmt: skip
    assert len({run.name for run in runs}) == len(runs)


def test_the_worst_model_is_not_taken_for_the_best() -> None:
    with pytest.raises(InputError, match="the study monitors 'val_auroc' with mode=min"):
        plan(monitor="val_auroc")


def test_orders_that_are_the_same_for_single_transfer_are_one_run_of_it() -> None:
    orders = ["fixed", "no_repeat", "shuffled"]
    runs = plan(orders=orders, every_n_epochs=[1])
    assert [run.order for run in runs if run.heuristic == "single_weight_transfer"] == ["fixed", "shuffled"]
    assert [run.order for run in runs if run.heuristic == "cyclical_weight_transfer"] == orders


def test_all_have_the_same_budget_of_steps() -> None:
    # Two sites of 28 training images are 4 batches of 8 each, or, pooled, 7.
    central, *singles, _, single_transfer, cyclical, slow = plan()
    assert central.config["trainer"]["max_steps"] == central.steps == 2 * (4 + 4)
    assert central.config["trainer"]["max_epochs"] * 7 >= central.steps
    assert [run.steps for run in (single_transfer, cyclical, slow)] == [16, 16, 16]
    assert cyclical.config["trainer"]["max_epochs"] == slow.config["trainer"]["max_epochs"] == 4
    assert callbacks(single_transfer)["SingleWeightTransfer"]["max_epochs_per_site"] == 2
    assert [callbacks(run)["CyclicalWeightTransfer"]["every_n_epochs"] for run in (cyclical, slow)] == [1, 2]
    assert [run.config["trainer"]["max_steps"] for run in singles] == [8, 8]
    assert [run.config["trainer"]["max_steps"] for run in plan(single_budget="steps")[1:3]] == [16, 16]


def test_visits_may_be_told_in_steps_at_the_same_budget() -> None:
    # Of 16 steps, cycles of 4 and of 6 at two sites: the third of the longer ones is cut short.
    short, long = plan(heuristics=["cyclical_weight_transfer"], every_n_epochs=[], every_n_steps=[2, 3])
    assert [run.steps for run in (short, long)] == [16, 16]
    assert [run.config["trainer"]["max_epochs"] for run in (short, long)] == [4, 3]
    assert [run.config["trainer"]["max_steps"] for run in (short, long)] == [-1, 16]
    assert [(run.every_n_epochs, run.every_n_steps) for run in (short, long)] == [(None, 2), (None, 3)]
    assert callbacks(long)["CyclicalWeightTransfer"]["every_n_steps"] == 3
    with pytest.raises(InputError, match="visits of 9 steps make cycles of 18 steps, but the budget of passes=2 is 16"):
        plan(every_n_steps=[9])


CYCLICAL: dict[str, Any] = {"class_path": "CyclicalWeightTransfer", "init_args": {"every_n_epochs": 1}}


def own(name: str = "mine", *more: Any, **settings: Any) -> dict[str, Any]:
    transfer = {**CYCLICAL, "init_args": settings or CYCLICAL["init_args"]}
    return {"name": name, "callbacks": [transfer, *more]}


def test_callbacks_of_ones_own_train_as_the_short_name_does_and_for_as_long() -> None:
    short, mine = plan(heuristics=["cyclical_weight_transfer", own("mine/../Ü")], every_n_epochs=[1])
    assert mine.heuristic == "mine/../Ü"
    assert re.fullmatch("mine-seed_0-[0-9a-f]{8}", mine.name), "no text becomes a path"
    assert (
        list(callbacks(mine))
        == list(callbacks(short))
        == ["CyclicalWeightTransfer", "SiteEvaluation", "ModelCheckpoint"]
    )
    ours, theirs = (callbacks(run)["CyclicalWeightTransfer"] for run in (short, mine))
    assert {name: theirs[name] for name in ours} == ours
    for name in ("max_epochs", "max_steps"):
        assert mine.config["trainer"][name] == short.config["trainer"][name]
    assert [(run.steps, run.every_n_epochs, run.optimizer_state) for run in (short, mine)] == [(16, 1, "reset")] * 2


@pytest.mark.parametrize(
    ("transfer", "epochs", "max_steps"),
    [
        (own(every_n_epochs=2), 4, -1),
        (own(every_n_steps=3), 3, 16),
        (own(every_n_epochs=1, order=["site-2"]), 4, -1),
        ({"name": "plateaus", "callbacks": ["SingleWeightTransfer"]}, 4, 16),
    ],
)
def test_the_budget_of_callbacks_is_that_of_all(transfer: dict[str, Any], epochs: int, max_steps: int) -> None:
    [run] = plan(heuristics=[transfer])
    assert (run.config["trainer"]["max_epochs"], run.config["trainer"]["max_steps"]) == (epochs, max_steps)


def test_visits_that_the_budget_has_no_cycle_of_and_sites_that_are_not_there_are_refused() -> None:
    with pytest.raises(
        InputError, match="the visits of 'mine' make cycles of 24 steps, but the budget of passes=2 is 16"
    ):
        plan(heuristics=[own(every_n_epochs=3)])
    with pytest.raises(InputError, match="'mine': the order names the site 'b', which is not one of"):
        plan(heuristics=[own(every_n_epochs=1, order=["b"])])


def test_a_changed_setting_or_name_of_a_callback_makes_another_run() -> None:
    prox = [{"class_path": "FedProx", "init_args": {"mu": mu}} for mu in (0.1, 0.2)]
    plans = [plan(heuristics=[own(name, *more)])[0].name for name, more in
             (("a", []), ("a", prox[:1]), ("a", prox[1:]), ("b", prox[1:]), ("B!", prox[1:]))]  # fmt: skip
    assert len({name[-8:] for name in plans}) == len(plans)


def test_callbacks_added_to_a_short_name_are_in_all_of_its_runs() -> None:
    timer = {"class_path": "Timer", "init_args": {"duration": "00:01:00:00"}}
    kinds = ["central", "single", "cyclical_weight_transfer"]
    runs = plan(
        heuristics=[*kinds, *({"name": f"{kind} +", "heuristic": kind, "callbacks": [timer]} for kind in kinds)]
    )
    plain, timed = ([run for run in runs if run.heuristic.endswith("+") is whether] for whether in (False, True))
    assert [run.kind for run in timed] == [run.heuristic for run in plain]
    for before, after in zip(plain, timed, strict=True):
        names = [name for name in callbacks(after) if name != "Timer"]
        assert names == list(callbacks(before))
        assert callbacks(after)["Timer"]["duration"] == "00:01:00:00"
        assert before.config["data"] == after.config["data"]


def test_an_ensemble_with_callbacks_is_of_models_with_them() -> None:
    entries = [{"name": f"{kind} +", "heuristic": kind, "callbacks": ["Timer"]} for kind in ("ensemble", "single")]
    *members, ensemble, one, other = plan(heuristics=["ensemble", *entries])[3:] + plan(heuristics=entries[:1])[:2]
    assert ensemble.members == tuple(run.name for run in members)
    assert {run.heuristic for run in members} == {"single +"}, "which the study compares, too"
    assert {run.heuristic for run in (one, other)} == {"ensemble +, single institution"}
    assert [each["class_path"] for each in ensemble.config["trainer"]["callbacks"]] == [
        "lightning.pytorch.callbacks.Timer"
    ]


def test_central_makes_all_its_steps_where_a_lone_image_is_left_out() -> None:
    # Of the 56 pooled images, in batches of 5, the last one waits for another pass: 11 batches, not 12.
    data = {**SMALL["data"], "init_args": {**SMALL["data"]["init_args"], "batch_size": 5}}
    [central] = plan(data=data, heuristics=["central"])
    assert central.steps == 2 * (6 + 6)
    assert central.config["trainer"]["max_epochs"] == 3


def test_accumulated_batches_make_fewer_steps() -> None:
    runs = plan(trainer={**SMALL["trainer"], "accumulate_grad_batches": 3})
    assert runs[0].steps == 2 * (2 + 2)


def test_ensembles_are_of_the_single_institution_models_of_their_seed() -> None:
    runs = plan(seeds=[0, 1], heuristics=["single", "ensemble"])
    for seed in (0, 1):
        [ensemble] = [run for run in runs if run.heuristic == "ensemble" and run.seed == seed]
        singles = [run for run in runs if run.heuristic == "single" and run.seed == seed]
        assert ensemble.members == tuple(run.name for run in singles)
        assert [run.config["data"]["init_args"]["only_site"] for run in singles] == ["site-1", "site-2"]
    assert [run.heuristic for run in plan(heuristics=["ensemble"])] == ["single", "single", "ensemble"]


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        ({"data": {**SMALL["data"], "init_args": {**SMALL["data"]["init_args"], "patients": 50}}}, True),
        ({"model": {**SMALL["model"], "init_args": {**SMALL["model"]["init_args"], "dropout": 0.1}}}, True),
        ({"passes": 4}, True),
        ({"site_evaluation": "off", "heuristics": ["central", "single", "ensemble"]}, False),
        ({"data": {**SMALL["data"], "init_args": {**SMALL["data"]["init_args"], "num_workers": 2}}}, False),
        ({"jobs": 1, "seeds": [0, 5]}, False),
        ({"wandb": {"project": "x"}}, False),
    ],
)
def test_a_changed_setting_makes_another_run_if_it_matters(changes: dict[str, Any], changed: bool) -> None:
    before, after = ([run.name for run in plan(**some)] for some in ({}, changes))
    assert set(before).isdisjoint(after) is changed
    assert changed or set(after) <= set(before) or set(before) <= set(after)


def test_a_schedule_follows_the_length_of_each_run() -> None:
    schedule = {"class_path": "torch.optim.lr_scheduler.CosineAnnealingLR", "init_args": {"T_max": 1}}
    model = {**SMALL["model"], "init_args": {**SMALL["model"]["init_args"], "lr_scheduler": schedule}}
    name = "model.init_args.lr_scheduler.init_args.T_max"
    for length, expected in (("epochs", [3, 2, 2, 4, 4, 4]), ("steps", [16, 8, 8, 16, 16, 16])):
        runs = [run for run in plan(model=model, lengths={name: length}) if run.heuristic != "ensemble"]
        values = [run.config["model"]["init_args"]["lr_scheduler"]["init_args"]["T_max"] for run in runs]
        assert values == expected
    with pytest.raises(InputError, match=r"lengths names 'model\.init_args\.nothing', but there is no such setting"):
        plan(lengths={"model.init_args.nothing": "epochs"})


def test_a_schedule_is_as_long_as_the_rounds_of_federated_averaging() -> None:
    schedule = {"class_path": "torch.optim.lr_scheduler.CosineAnnealingLR", "init_args": {"T_max": 1}}
    model = {**SMALL["model"], "init_args": {**SMALL["model"]["init_args"], "lr_scheduler": schedule}}
    averaging = {"class_path": "FederatedAveraging", "init_args": {"every_n_epochs": 1}}
    own = [{"name": "averaging", "callbacks": averaging}, "cyclical_weight_transfer"]
    lengths = {"model.init_args.lr_scheduler.init_args.T_max": "epochs"}
    runs = plan(model=model, heuristics=own, lengths=lengths, every_n_epochs=[1])
    found = [run.config["model"]["init_args"]["lr_scheduler"]["init_args"]["T_max"] for run in runs]
    assert found == [2, 4]  # passes; and passes at two sites, one after the other


def test_callbacks_of_the_users_come_before_the_transfer() -> None:
    timer = {"class_path": "Timer", "init_args": {"duration": "00:01:00:00"}}
    runs = plan(trainer={**SMALL["trainer"], "callbacks": [timer]})
    expected = ["Timer", "CyclicalWeightTransfer", "SiteEvaluation", "ModelCheckpoint"]
    assert list(callbacks(runs[-1])) == expected


def test_a_callback_of_a_heuristic_takes_the_place_of_another_of_its_class() -> None:
    shared = [_statistics(8), {"class_path": "Timer", "init_args": {"duration": "00:01:00:00"}}]
    own = {"name": "shared statistics", "heuristic": "central", "callbacks": [_statistics(0)]}
    both = plan(heuristics=["central", own], trainer={**SMALL["trainer"], "callbacks": shared})
    assert [list(callbacks(run)) for run in both] == [
        ["SiteStatistics", "Timer", "ModelCheckpoint"],
        ["Timer", "SiteStatistics", "ModelCheckpoint"],
    ]
    assert [callbacks(run)["SiteStatistics"]["images"] for run in both] == [8, 0]


def _statistics(images: int) -> dict[str, Any]:
    return {"class_path": "SiteStatistics", "init_args": {"images": images}}


def test_one_callback_need_not_be_in_a_list() -> None:
    timer = {"class_path": "Timer", "init_args": {"duration": "00:01:00:00"}}
    [central] = plan(trainer={**SMALL["trainer"], "callbacks": timer}, heuristics=["central"])
    assert list(callbacks(central)) == ["Timer", "ModelCheckpoint"]


def test_data_without_sites_is_refused() -> None:
    data = {**SMALL["data"], "init_args": {**SMALL["data"]["init_args"], "centralized": True}}
    with pytest.raises(InputError, match="one training loader a site, and two sites at least"):
        plan(data=data)

"""A site's door: whatever a run's settings say, nothing is run, and what is the site's own stays so."""

import json
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from door import CODE, COMMAND, MARK, changed, facts, of_process, own, watched
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lit_dist import InputError
from lit_dist.federation.build import FederatedRun, make_site
from lit_dist.federation.client import _MISTAKES
from lit_dist.federation.policy import read_run
from lit_dist.federation.refusal import Refusal
from lit_dist.federation.roster import Roster
from small_federation import SITES, InProcess

SYSTEM = {"class_path": "os.system", "init_args": {"command": COMMAND}}
LAMBDA = {"class_path": "sympy.core.function.Lambda", "init_args": {"signature": "x", "expr": CODE}}
CALLED = {"class_path": "lightning.pytorch.callbacks.LambdaCallback", "init_args": {"on_fit_start": LAMBDA}}


FIXED = {"class_path": "SingleWeightTransfer", "init_args": {"every_n_epochs": 2}}


def site(run: Any) -> Any:
    return make_site("site-1", run, own(), Path("here").absolute())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda run: arguments(run).update(optimizer=str(SYSTEM).replace("'", '"')),
            "must be class_path and init_args of Opti",
        ),
        (lambda run: arguments(run).update(optimizer=SYSTEM), "names 'os.system', which is not one of the classes"),
        (lambda run: arguments(run).update(optimizer="settings.yaml"), "optimizer is 'settings.yaml'; it must be"),
        (lambda run: arguments(run).update(lr_scheduler=LAMBDA), "'sympy.core.function.Lambda', which is not one"),
        (lambda run: run["trainer"].update({"callbacks+": str([CALLED])}), r"'callbacks\+'; a setting's name is a"),
        (lambda run: run["trainer"]["callbacks"].append(CALLED), "LambdaCallback', which is not one"),
        (lambda run: run["trainer"]["callbacks"].append(FIXED), "SingleWeightTransfer has no such setting; it has mon"),
        (lambda run: run.update({"data.init_args.only_site": "site-2"}), "'data.init_args.only_site'; a setting's"),
        (lambda run: run.update({"trainer.max_epochs": 999}), "'trainer.max_epochs'; a setting's"),
        (lambda run: run["trainer"].update(devices=24), "trainer.devices=24, which is each site's own"),
        (lambda run: run["trainer"].update(devices=True), "trainer.devices=True, which is each site's own"),
        (lambda run: run["trainer"].update(strategy="ddp_spawn"), "trainer.strategy='ddp_spawn', which is"),
        (lambda run: run["trainer"].update(default_root_dir="/etc"), "trainer.default_root_dir='/etc', which is"),
        (lambda run: run["trainer"].update(logger=SYSTEM), "trainer.logger names 'os.system'"),
        (lambda run: run["trainer"].update(devise=1), "trainer.devise: Trainer has no such setting"),
        (lambda run: run["trainer"].update(max_epochs=True), "trainer.max_epochs is True; it must be"),
        (lambda run: run["trainer"].update(max_epochs="3"), "trainer.max_epochs is '3'; it must be"),
        (lambda run: run["model"].update(dict_kwargs={"a": 1}), "model has 'dict_kwargs'; a class has"),
        (lambda run: arguments(run)["optimizer"].update(class_path="torch.optim.adam.os.system"), "not one of the"),
        (lambda run: arguments(run)["optimizer"].update(class_path="StepLR"), "what is wanted there is Optimizer"),
        (lambda run: arguments(run)["optimizer"]["init_args"].update(lr="0.1"), "lr is '0.1'; it must be"),
        (lambda run: arguments(run)["optimizer"]["init_args"].update(lr=float("nan")), "lr is not a finite number"),
        (lambda run: arguments(run)["optimizer"]["init_args"].update(lr=10**400), "lr is not a finite number"),
        (lambda run: arguments(run)["optimizer"]["init_args"].update(params=[]), "params: Adam has no such setting"),
        (lambda run: arguments(run)["backbone_kwargs"].update(norm_layer=SYSTEM), "what is wanted there is no class"),
        (lambda run: arguments(run)["backbone_kwargs"].update(width=[[8]]), r"width\[0\] is \[8\]; it must be"),
        (
            lambda run: arguments(run)["backbone_kwargs"].update(width=json.loads("[" * 20 + "]" * 20)),
            "nested 16 times",
        ),
        (lambda run: arguments(run).update(class_weights=[1.0] * 30_000), "or have 20000 values"),
        (lambda run: arguments(run).update(backbone="x" * 5000), "a text of more than 4096 letters"),
        (lambda run: arguments(run).update(backbone="x\u202e"), "some that cannot be printed"),
        (lambda run: arguments(run).update(class_weights=["1"]), r"class_weights\[0\] is '1'; it must be float"),
        (lambda run: arguments(run).update(backbone="../../x"), "names a place of the site's machine"),
        (lambda run: run.update(seed_everything="0"), "seed_everything is '0'; it must be a whole number"),
        (lambda run: run.update(config="x.yaml"), "the run has the setting 'config'"),
    ],
)
def test_a_setting_that_is_not_a_runs_is_refused_by_name_before_anything_is_made(change: Any, message: str) -> None:
    run = changed(change)
    with watched() as noted, pytest.raises(Refusal, match=message):
        site(run)
    assert noted == []


def arguments(run: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = run["model"]["init_args"]
    return found


def test_a_run_of_listed_classes_is_made_and_has_only_what_is_the_sites() -> None:
    run = changed(lambda run: run["trainer"].update(accelerator="gpu", logger=False, enable_progress_bar=True))
    party = site({**run, "data": {"class_path": "os.system", "init_args": {"only_site": "site-2"}}})
    assert facts(party) == FACTS | {"folder": str(Path("here").absolute())}
    optimizer = party.module.configure_optimizers()["optimizer"]
    assert (type(optimizer).__name__, optimizer.defaults["betas"]) == ("Adam", (0.9, 0.999))


FACTS = {
    "site": "site-1",
    "data": "PhantomDataModule",
    "processes": (1, 1, 1),
    "device": "cpu",
    "strategy": "SingleDeviceStrategy",
    "loggers": [],
    "profiler": "PassThroughProfiler",
    "io": "SafetensorsCheckpointIO",
}


def test_a_site_adds_classes_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mylab.py").write_text("import torch\nclass Slow(torch.optim.SGD):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    run = changed(lambda run: arguments(run)["optimizer"].update(class_path="mylab.Slow", init_args={"lr": 0.1}))
    with pytest.raises(Refusal, match="'mylab\\.Slow', which is not one of the classes"):
        site(run)
    assert "mylab" not in sys.modules
    taken = make_site("site-1", run, replace(own(), classes=["mylab.Slow"]), Path("here").absolute())
    assert type(taken.module.configure_optimizers()["optimizer"]).__name__ == "Slow"


@pytest.mark.parametrize("text", ["[" * 10**5, "{", "[]", '{"model": {}}', 7, '"' + "x" * 2**21 + '"'])
def test_what_is_no_run_is_refused(text: Any) -> None:
    with pytest.raises(Refusal) as caught:
        read_run(text)
    assert len(str(caught.value)) < 300


def test_settings_are_no_longer_than_anybody_needs() -> None:
    text = json.dumps(changed(lambda run: None))
    read_run(text)
    with pytest.raises(Refusal, match="not text of at most 1048576 letters"):
        read_run(text + " " * 2**20)
    with pytest.raises(Refusal) as caught:
        site(changed(lambda run: arguments(run).update(optimizer="x" * 4000)))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["save_dir", "name", "version"])
def test_a_servers_run_stays_in_its_folder(name: str) -> None:
    logger = {"class_path": "CSVLogger", "init_args": {"save_dir": "runs", name: "../../elsewhere"}}
    with pytest.raises(InputError, match="names a place of the server's machine"):
        FederatedRun(changed(lambda run: run["trainer"].update(logger=logger)), Roster(InProcess({}), SITES),
                     Path("server"), resume=False)  # fmt: skip


# -- a grammar of attacks ----------------------------------------------------------------------------------------------

PATHS = [
    "os.system", "subprocess.Popen", "builtins.eval", "builtins.exec", "torch.os.system", "torch.hub.load", "os", "",
    "sympy.core.function.Lambda", "functools.partial", "pathlib.Path.touch", "lit_dist.utils.atomic_write.replacing",
    "__main__.x", "lightning.pytorch.callbacks.LambdaCallback", "torch.optim.lr_scheduler.LambdaLR", "torch.load",
    "pickle.loads", "lit_dist.ImageClassifier", "torch.optim.SGD", "torch.optim.SGD.load_state_dict", "StepLR",
    "CSVLogger", "this", "torch.optim.adam.torch.os.system", "lit_dist.\N{CYRILLIC SMALL LETTER I}mageClassifier",
    "ImageClassifier\n", "lit_dist.models.ensemble.SiteEnsemble", "torch.nn.CrossEntropyLoss", "wandb.init",
    "antigravity", "torch.optim.adam.Adam",
]  # fmt: skip
TEXTS = [
    COMMAND, CODE, "evil.yaml", "evil.json", "/etc/passwd", "~/x", "../x", "${oc.env:HOME}", "!!python/name:os.system",
    "&a [*a]", "null", "[1]", "{a: 1}", "1e-3", "\0", "val_loss", "cpu", "ddp", "https://x.y/z", "32-true", "simple",
    '{"class_path": "os.system"}',
]  # fmt: skip
KEYS = [
    *("class_path", "init_args", "dict_kwargs", "callbacks", "callbacks+", "trainer.devices", "data", "__class__", ""),
    *("optimizer", "lr_scheduler", "lr_lambda", "on_fit_start", "command", "args", "signature", "expr", "params", "lr"),
    *("logger", "logger+", "plugins", "strategy", "profiler", "devices", "num_nodes", "default_root_dir", "config"),
    *("backbone_kwargs", "weights", "model", "trainer", "seed_everything", "only_site", "data.init_args.only_site"),
    *("limit_train_batches", "max_epochs", "precision", "dirpath", "filename", "baton_dir", "monitor", "$schema"),
    *("accelerator", "enable_progress_bar", "log_every_n_steps", "dropout", "betas", "step_size", "order"),
]
NUMBERS = st.none() | st.booleans() | st.integers() | st.floats()
ODD = [
    -0.0, 2**63, 10**400, float("nan"), 1e-320, "True", "no", "3", "0x1F", "1_000", "$HOME", "*", "x" * 5000,
    "b3Muc3lzdGVt", "b'os.system'", "gASVBQAAAAAAAABLAS4=", "data:text/yaml;base64,eDogMQ==", "file:///etc/passwd",
    "\N{RIGHT-TO-LEFT OVERRIDE}x", "\N{GREEK SMALL LETTER MU}", "\N{FULLWIDTH FULL STOP}.x", "\ud800", "\u2028",
    [["class_path", "os.system"]], [0] * 30_000, [[[[[[[[[[[[[[[[[[0]]]]]]]]]]]]]]]]]], {"a": {"a": {"a": 1}}},
    {"init_args": {"command": COMMAND}}, {"class_path": COMMAND}, {"class_path": None}, {"class_path": ["os.system"]},
    {"class_path": "os.system", "init_args": [COMMAND]},
]  # fmt: skip
"""Kinds of values that settings may be mistaken for, or that are mistaken for settings."""

ODD_KEYS = [
    "__init__", "__call__", "__reduce__", "self", "cls", "kwargs", "*", "0", "x" * 5000,
    "cla\N{CYRILLIC SMALL LETTER ES}s", "class_path ", "Class_Path", "init_args+", "[0]", "a-b", "a/b", "<<",
    "\N{LATIN SMALL LIGATURE FI}lename", "if",
]  # fmt: skip
ODD_NAMES = [0, -1, 2**70, None, True, 1.5, ("a", "b"), b"lr"]
"""Keys that only a program can give: in a job all are text."""

SCALARS = st.sampled_from(TEXTS) | st.sampled_from(PATHS) | NUMBERS | st.text(max_size=5) | st.sampled_from(ODD)
KEY = st.sampled_from(KEYS) | st.text(max_size=5) | st.sampled_from(ODD_KEYS) | st.sampled_from(ODD_NAMES)


def _specs(inner: Any) -> Any:
    named = {
        "init_args": st.dictionaries(KEY, inner, max_size=3),
        "dict_kwargs": st.dictionaries(KEY, inner, max_size=2),
    }
    return st.fixed_dictionaries({"class_path": st.sampled_from(PATHS)}, optional=named)


TREES = st.recursive(
    SCALARS | _specs(SCALARS),
    lambda inner: st.one_of(
        _specs(inner), st.lists(inner, max_size=3), st.dictionaries(KEY, inner, max_size=3), _specs(inner).map(str),
        _specs(inner).map(lambda spec: str(spec).replace("'", '"')),
    ),
    max_leaves=6,
)  # fmt: skip
PLACES = [
    *((), ("model",), ("model", "init_args"), ("model", "init_args", "optimizer"), ("trainer", "callbacks", 1)),
    *(("model", "init_args", "optimizer", "init_args"), ("model", "init_args", "lr_scheduler"), ("trainer",)),
    *(("model", "init_args", "lr_scheduler", "init_args"), ("model", "init_args", "backbone_kwargs")),
    *(("trainer", "callbacks", 0, "init_args"), ("trainer", "callbacks", 1, "init_args"), ("trainer", "callbacks", 0)),
]
TAKEN: dict[Any, list[str]] = {
    ("model", "init_args"): ["backbone", "dropout", "optimizer", "lr_scheduler", "weights", "class_weights"],
    ("model", "init_args", "optimizer", "init_args"): ["lr", "betas", "eps", "foreach", "fused", "maximize"],
    ("model", "init_args", "lr_scheduler", "init_args"): ["step_size", "gamma", "last_epoch"],
    ("trainer",): [
        "max_epochs",
        "precision",
        "devices",
        "logger",
        "callbacks",
        "gradient_clip_val",
        "val_check_interval",
    ],
    ("trainer", "callbacks", 0, "init_args"): ["every_n_epochs", "order", "optimizer_state", "baton_dir", "seed"],
    ("trainer", "callbacks", 1, "init_args"): ["dirpath", "filename", "monitor", "save_top_k", "save_last", "mode"],
}
"""Names that there are in these places, so that values come to be looked at."""

NAMED = st.sampled_from([(place, name) for place, names in TAKEN.items() for name in names])
ATTACK = st.tuples(st.sampled_from(PLACES), KEY, TREES) | st.builds(
    lambda at, tree: (*at, tree), NAMED, SCALARS | TREES
)
ATTACKS = st.lists(ATTACK, min_size=1, max_size=3)


def attacked(attacks: list[tuple[Any, str, Any]]) -> dict[str, Any]:
    def change(run: dict[str, Any]) -> None:
        for place, key, value in attacks:
            at: Any = run
            for part in place:
                within = range(len(at)) if isinstance(at, list) else at if isinstance(at, dict) else ()
                at = at[part] if part in within else None
            if isinstance(at, dict):
                at[key] = value

    return changed(change)


def check(attacks: list[tuple[Any, str, Any]], as_text: bool) -> bool:
    """Try an attack, as a program or as a job gives it; whether the site took the run, changed only in what is its."""
    run: Any = attacked(attacks)
    run = json.dumps(run, skipkeys=True) if as_text else run
    before, party = of_process(), None
    with watched() as noted, suppress(InputError):
        party = site(read_run(run) if as_text else run)
        with suppress(*_MISTAKES):  # which a site that is asked to train words
            party.module.configure_optimizers()
    assert noted == [], (noted, run)
    assert of_process() == before, run
    assert not Path(MARK).exists()
    if party is not None:
        folder = Path("here") if hasattr(party, "transfer") else Path("here/alone")
        assert facts(party) == FACTS | {"folder": str(folder.absolute())}, run
    return party is not None


@pytest.fixture
def _imported() -> None:
    """Runs of both kinds, of which some import what they need where it is used."""
    site(changed(lambda run: None))
    site(changed(lambda run: run["trainer"].update(callbacks=[])))


@pytest.mark.slow
@pytest.mark.usefixtures("_imported")
@settings(max_examples=300, derandomize=True, suppress_health_check=[*HealthCheck])
@given(ATTACKS, st.booleans())
@pytest.mark.filterwarnings("ignore")
def test_no_settings_run_anything_at_a_site_or_change_what_is_its_own(
    attacks: list[tuple[Any, str, Any]], as_text: bool
) -> None:
    check(attacks, as_text)


def test_the_watch_sees_what_an_attack_would_do() -> None:
    import os

    with watched() as noted:
        os.system(COMMAND)
        __import__("this")
    assert [each.partition(" ")[0] for each in noted][:1] == ["os.system"]
    assert any("import this" in each for each in noted)
    assert Path(MARK).exists()

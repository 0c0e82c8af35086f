"""Files of earlier releases verify, load, replay, resume, and hash, by the rules of the release that wrote them."""

import hashlib
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from make_formats import federate, weights
from torch import nn

from lit_dist import ImageClassifier, InputError, read_checkpoint
from lit_dist.checkpoints.baton import fingerprint
from lit_dist.cli.main import main
from lit_dist.datamodules.images.phantom_images import CameraLook, draw_phantom
from lit_dist.provenance.ledger import read_entries
from lit_dist.provenance.run_settings import versions
from lit_dist.provenance.verify import verify
from lit_dist.runs.replay import replay
from lit_dist.study.execute import execute

pytestmark = pytest.mark.filterwarnings("ignore:Experiment logs directory .* exists and is not empty:UserWarning")
FORMATS = Path(__file__).parents[1] / "formats" / "0.1"
CYCLICAL = "cyclical_weight_transfer-every_01-fixed-reset-seed_0-46cf0630"
LEDGERS = ("chain", f"study/runs/{CYCLICAL}/fit", "federation/server")
CONFIGS = ("chain", "pooled", f"study/runs/{CYCLICAL}/fit")
FILES = sorted(str(path.relative_to(FORMATS)) for path in FORMATS.rglob("*.ckpt"))
MACHINE = "5d0789e815609a5c"
"""What the arithmetic of the machine that made the files comes to, without a line of lit_dist that trains."""

UNBROKEN = {
    "chain": "7807889a152774cc49eeb65cb6ba314b9936bcf0b1b40ad6f9fab05f13d42702",
    "pooled": "889e738468891121e11aaaf391d1119f2e5e96aa2e474153fe89686241162097",
    "study": "87aac13f203c6ba5a9af89d5b50c3b58b16558c5378e3b424fff62ac2caa1c18",
    "federation": "75e0e02841fb39a7ceace37a3fd76bc5eb39096da665648e1f9065a4df4a2fed",
}
"""The weights that the runs ended with where nothing interrupted them."""


@pytest.fixture(autouse=True)
def _files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of them, at the places that their settings name."""
    monkeypatch.setattr(sys, "argv", ["lit-dist"])
    shutil.copytree(FORMATS, ".", dirs_exist_ok=True)
    for name in ("chain", "pooled"):
        shutil.move(name, f"runs/{name}/version_0")


@cache
def same_machine() -> bool:
    """Whether this machine computes what that of the files did: the same programs, threads and arithmetic."""
    phantom = draw_phantom(2, CameraLook.of_site(0, 0), 0, 32)
    generator = torch.Generator().manual_seed(0)
    layers = [nn.Conv2d(3, 4, 7, 2, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3, padding=1), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Linear(8 * 16 * 16, 2))
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / 8
    optimizer = torch.optim.Adam(network.parameters())
    for _ in range(3):
        images = torch.from_numpy(phantom).permute(2, 0, 1)[None].expand(4, -1, -1, -1) / 255
        loss = nn.functional.cross_entropy(
            network(images + torch.randn(images.shape, generator=generator)), torch.arange(4) % 2
        )
        loss.backward()
        optimizer.step()
    content = b"".join(each.detach().numpy().tobytes() for each in network.parameters()) + phantom.tobytes()
    recorded = read_entries(FORMATS / "chain" / "ledger.jsonl")[0].versions
    now = versions()
    programs = all(now[name] == recorded[name] for name in ("lightning", "torch", "threads"))
    return programs and hashlib.sha256(content).hexdigest()[: len(MACHINE)] == MACHINE


def ends_with(found: str, name: str) -> bool:
    return found == UNBROKEN[name] or not same_machine()


@pytest.mark.parametrize("run", LEDGERS)
def test_a_ledger_verifies_against_its_checkpoint(run: str) -> None:
    said = verify(FORMATS / run)
    assert "the chain is whole" in said
    assert "belongs to it" in said


@pytest.mark.parametrize("file", FILES)
def test_a_checkpoint_gives_its_weights_and_a_model(file: str) -> None:
    content = read_checkpoint(FORMATS / file)
    model = ImageClassifier.load_from_checkpoint(FORMATS / file)
    assert fingerprint(model.state_dict()) == fingerprint(content["state_dict"])
    assert content["hyper_parameters"]["backbone_kwargs"] == {"width": 1}


def test_a_baton_has_the_weights_that_the_ledger_names() -> None:
    entry = read_entries(FORMATS / "chain" / "ledger.jsonl")[1]
    content = read_checkpoint(FORMATS / "chain" / "batons" / "visit_000001.baton")
    assert fingerprint(content["state_dict"])[0] == entry.sha256_out


LATER = ("external", "mode")
"""Settings that came later, which are None where nobody gives them."""


def known(now: Any, then: Any) -> Any:
    """The settings of now without those that came later."""
    if isinstance(now, list) and isinstance(then, list):
        return [known(*pair) for pair in zip(now, then, strict=True)]
    if not isinstance(now, dict) or not isinstance(then, dict):
        return now
    later = [name for name in now if name in LATER and name not in then and now[name] is None]
    return {name: known(value, then.get(name)) for name, value in now.items() if name not in later}


@pytest.mark.parametrize("run", CONFIGS)
def test_a_configuration_is_understood_and_saved_again_as_it_was(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = FORMATS / run / "config.yaml"
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(path), "--print_config"])
    given = yaml.safe_load(path.read_text())
    saved = yaml.safe_load(capsys.readouterr().out)
    assert known({name: saved[name] for name in given if name != "resume"}, given) == {
        name: value for name, value in given.items() if name != "resume"
    }


def test_settings_have_the_hash_that_the_ledger_names() -> None:
    recorded = read_entries(FORMATS / "chain" / "ledger.jsonl")[0]
    main(["fit", "--config", str(FORMATS / "chain" / "config.yaml"), "--trainer.max_epochs", "1"])
    entry = read_entries(Path("runs/chain/version_1/ledger.jsonl"))[0]
    assert entry.settings == recorded.settings
    assert (entry.sha256_in, entry.sha256_out) == (recorded.sha256_in, recorded.sha256_out) or not same_machine()


def test_a_visit_is_replayed() -> None:
    if same_machine():
        assert "ended with the same weights" in replay("runs/chain/version_0", 2)
    else:  # the same weights would be chance
        with pytest.raises(InputError, match=r"does not repeat(?!.*the settings are others)"):
            replay("runs/chain/version_0", 2)


def test_what_another_torch_computes_is_said_and_its_settings_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    others = {**versions(), "torch": "9.9"}
    monkeypatch.setattr("lit_dist.runs.replay.versions", lambda: others)
    monkeypatch.setattr(ImageClassifier, "training_step", lambda module, batch, _: module(batch[0]).sum())
    with pytest.raises(InputError, match=r"torch was \S+ and is 9.9(?!.*the settings are others)"):
        replay("runs/chain/version_0", 2)


@pytest.mark.parametrize("name", ["chain", "pooled"])
def test_a_run_resumes_and_ends_as_if_unbroken(name: str) -> None:
    run = Path("runs") / name / "version_0"
    main(["fit", "--config", str(run / "config.yaml"), "--resume"])
    assert [path.name for path in Path("runs", name).iterdir()] == ["version_0"]
    assert ends_with(weights(run), name)
    if name == "chain":
        entries = read_entries(run / "ledger.jsonl")
        assert [entry.visit for entry in entries] == list(range(6))
        assert len({entry.settings for entry in entries}) == 1
        verify(run)


@pytest.mark.slow
def test_a_study_is_planned_alike_and_resumed() -> None:
    runs = {path: path.read_bytes() for path in Path("study/runs").glob("*/plan.json")}
    main(["compare", "--config", "study/study.yaml", "--output", "study", "--print-commands"])
    assert {path: path.read_bytes() for path in Path("study/runs").glob("*/plan.json")} == runs
    sys.argv[1:] = []
    moved = Path("study").rename("moved")
    execute(moved, CYCLICAL)
    entries = read_entries(moved / "runs" / CYCLICAL / "fit/ledger.jsonl")
    assert len({entry.settings for entry in entries}) == 1
    assert ends_with(entries[-1].sha256_out, "study")


@pytest.mark.slow
def test_a_federation_resumes_with_what_its_machines_keep() -> None:
    settings = yaml.safe_load(Path("federation/server/config.yaml").read_text())
    federated = federate(Path("federation"), settings, resume=True)
    assert ends_with(fingerprint(federated.module.state_dict())[0], "federation")
    entries = read_entries(Path("federation/server/ledger.jsonl"))
    assert [entry.visit for entry in entries] == list(range(6))
    assert len({entry.settings for entry in entries}) == 1
    for site in ("site-1", "site-2"):
        counts = yaml.safe_load(Path("federation", site, "limits.json").read_text())
        ((_, run),) = counts["runs"].items()
        assert len(run["legs"]) == 3

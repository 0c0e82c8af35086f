"""What a run will write is looked at before the run changes anything."""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from one_sentence import refused

from lit_dist import InputError
from lit_dist.checkpoints.run_files import FILES, check_run, check_trainer_folders
from lit_dist.checkpoints.run_folder import checkpoints_of
from lit_dist.checkpoints.run_lock import held
from lit_dist.provenance.ledger import Ledger

FIT = [
    "fit", "--config", "configs/phantom/cyclical.yaml", "--data.patients=40", "--data.size=32", "--data.sites=2",
    "--model.backbone=slim_resnet18", "--trainer.logger.init_args.version=0", "--trainer.accelerator=cpu",
]  # fmt: skip
RUN = Path("runs/phantom/cyclical/version_0")


def put_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(path))


OBSTACLES: dict[str, Callable[[Path], Any]] = {
    "a folder": os.mkdir,
    "a pipe": os.mkfifo,
    "a socket": put_socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
}


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what nobody may write; permissions do not bind the user that tests may run as."""
    names: list[str] = []
    usual = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name not in names and usual(path, mode))
    return names


@pytest.mark.parametrize("kind", OBSTACLES)
def test_what_is_no_file_is_refused_by_name(kind: str) -> None:
    Path("checkpoints").mkdir()
    for name in [*FILES, "checkpoints/best.ckpt", "checkpoints/.step_1.ckpt.1a2b.partial"]:
        path = Path(name)
        OBSTACLES[kind](path)
        with pytest.raises(InputError, match=rf"{path.name} is {kind}, where a file is written: move it away"):
            check_run(Path())
        path.rename("aside")
        shutil.rmtree("aside") if kind == "a folder" else Path("aside").unlink()


def test_so_is_a_file_that_nobody_may_write(read_only: list[str]) -> None:
    for name in FILES:
        Path(name).touch()
        check_run(Path())
        read_only.append(name)
        with pytest.raises(InputError, match=f"{name} cannot be read and written by this user: change its permissions"):
            check_run(Path())
        read_only.clear()


@pytest.mark.parametrize("name", ["run", "checkpoints"])
def test_so_is_a_folder_that_nobody_may_write_or_that_is_none(name: str, read_only: list[str]) -> None:
    run = Path("run")
    (run / "checkpoints").mkdir(parents=True)
    folder = run if name == "run" else run / name
    read_only.append(name)
    for check in (check_run, checkpoints_of):
        with pytest.raises(InputError, match=rf"{name}\b.*: change its permissions"):
            check(run)
    read_only.clear()
    (run / "checkpoints").rmdir()
    if name == "run":
        run.rmdir()
    folder.touch()
    for check in (check_run, checkpoints_of):
        with pytest.raises(InputError, match=rf"{name} is .*move it away"):
            check(run)


def test_links_to_files_and_folders_and_other_names_are_not_refused() -> None:
    Path("elsewhere").mkdir()
    Path("elsewhere/ledger.jsonl").touch()
    Path("checkpoints").symlink_to("elsewhere")
    Path("ledger.jsonl").symlink_to("elsewhere/ledger.jsonl")
    Path("another.csv").symlink_to("nowhere")
    check_run(Path())
    check_run(Path("a/new/run"))
    assert not Path("a").exists()


@pytest.mark.parametrize(("name", "of_profiler"), [("dirpath", False), ("baton_dir", False), ("dirpath", True)])
def test_the_folders_of_callbacks_and_of_a_profiler_are_looked_at_too(name: str, of_profiler: bool) -> None:
    Path("taken").touch()
    part = SimpleNamespace(**{name: "taken"})
    trainer: Any = SimpleNamespace(callbacks=[] if of_profiler else [part], profiler=part if of_profiler else None)
    with pytest.raises(InputError, match="taken is a file, where a folder is needed"):
        check_trainer_folders(trainer, Path())


def test_who_trains_by_python_is_told_too() -> None:
    OBSTACLES["a pipe"](Path("metrics.csv"))
    with pytest.raises(InputError, match=r"metrics\.csv is a pipe"), held(Path()):
        pass
    assert os.listdir() == ["metrics.csv"]
    OBSTACLES["a link to nowhere"](Path("ledger.jsonl"))
    with pytest.raises(InputError, match=r"ledger\.jsonl is a link to nowhere"):
        Ledger(Path("ledger.jsonl"))


@pytest.mark.parametrize("setting", [["model"], ["data"], ["trainer", "callbacks"], ["ckpt_path"]])
@pytest.mark.parametrize("folder", [".", "settings"])
def test_no_command_waits_for_a_pipe_that_settings_name(
    folder: str, setting: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path(folder).mkdir(exist_ok=True)
    OBSTACLES["a pipe"](Path(folder) / "pipe.yaml")
    value: Any = "pipe.yaml"
    for name in reversed(setting):
        value = {name: value}
    path = Path(folder) / "run.yaml"
    path.write_text(yaml.safe_dump(value))
    assert "pipe.yaml, which is a pipe" in refused(["fit", "--config", str(path)], capsys)


def test_a_federation_on_this_machine_looks_at_its_folder_first() -> None:
    pytest.importorskip("nvflare")
    from lit_dist.federation.flare.local import LocalSystem

    system = LocalSystem(Path(), {"mgh": {}})
    for name in ("server.log", "mgh.log", "project.yml"):
        OBSTACLES["a pipe"](Path(name))
        with pytest.raises(InputError, match=f"{name} is a pipe"), system:
            pass
        assert os.listdir() == [name]
        os.unlink(name)


@pytest.mark.parametrize("command", ["fit", "test", "validate", "predict"])
def test_no_command_waits_for_a_pipe_or_changes_anything(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    RUN.mkdir(parents=True)
    OBSTACLES["a pipe"](RUN / "hparams.yaml")
    assert "hparams.yaml is a pipe" in refused([command, *FIT[1:]], capsys)
    assert os.listdir(RUN) == ["hparams.yaml"]

"""What stays at sites lies beside the checkpoints, by site: law 7, and what becomes of copies, damage and old files."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from lit_dist import InputError, newest_checkpoint, read_checkpoint
from lit_dist.callbacks import CyclicalWeightTransfer, RunCheckpoint
from lit_dist.checkpoints import state_tree, staying_files, tensor_file
from lit_dist.checkpoints.baton import fingerprint, write_checkpoint
from lit_dist.utils.file_backed import FileBacked
from scaffold import Scaffold
from small import SmallData, SmallModule, fit, inputs, trainer

STEPS = Path("checkpoints")
STAYING = STEPS / "staying"
LOCAL: dict[str, Any] = {"every_n_epochs": 1, "optimizer_state": "local"}


def hashed(module: SmallModule) -> str:
    return fingerprint(module.state_dict())[0]


class Sites(SmallData):
    """As many sites as wanted, of one batch each."""

    def train_dataloader(self) -> Any:
        rows = [torch.utils.data.TensorDataset(inputs(site % 3, 1)) for site in range(len(self.sizes))]
        return {f"s{site:03d}": torch.utils.data.DataLoader(each, batch_size=2) for site, each in enumerate(rows)}


# -- law 7 -----------------------------------------------------------------------------------------------------------


def bytes_of_the_last_visits(sites: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many bytes the last three visits of a run with both kinds of staying state have written."""
    sizes: list[int] = []
    usual = tensor_file.write_to

    def write_to(file: BinaryIO, *given: Any) -> str:
        sha256 = usual(file, *given)
        if trained.global_step > 2 * sites - 3:
            sizes.append(os.fstat(file.fileno()).st_size)
        return sha256

    with monkeypatch.context() as patch:
        patch.setattr(tensor_file, "write_to", write_to)
        trained = trainer(
            CyclicalWeightTransfer(**LOCAL), Scaffold(), RunCheckpoint(), max_epochs=2 * sites,
            limit_val_batches=0, default_root_dir=Path(f"sites_{sites}"),
        )  # fmt: skip
        trained.fit(SmallModule(), Sites([1] * sites))
    return sum(sizes)


@pytest.mark.slow
def test_a_visits_checkpoint_is_as_large_with_many_sites_as_with_few(monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = (bytes_of_the_last_visits(sites, monkeypatch) for sites in (4, 40))
    names = 3 * 36 * 2 * 120  # of three visits, 36 more sites and two files each
    assert few > 10_000
    assert many - few < names


# -- what is there ---------------------------------------------------------------------------------------------------


def named(checkpoint: Path) -> set[str]:
    return set(re.findall(r"[0-9a-f]{64}\.state", tensor_file.read(checkpoint)[1]))


class Watch(Callback):
    """Sees after each batch that what the checkpoints name is there, and else no more than one visit's."""

    def on_train_batch_start(self, *_: Any) -> None:
        files = {path.name for path in STAYING.glob("*")}
        assert set().union(*map(named, STEPS.glob("*.ckpt"))) == files
        self.most = max(self.most, len(files))

    most = 0


def test_there_are_the_files_that_checkpoints_name_and_no_others() -> None:
    best = ModelCheckpoint(STEPS, "best", monitor="val_loss", enable_version_counter=False)
    watch = Watch()
    fit(CyclicalWeightTransfer(**LOCAL), Scaffold(), best, RunCheckpoint(keep=1), watch, max_epochs=7)
    assert 5 <= watch.most <= 12
    assert set().union(*map(named, STEPS.glob("*.ckpt"))) == {path.name for path in STAYING.glob("*")}


def test_what_was_left_of_a_file_is_deleted() -> None:
    fit(CyclicalWeightTransfer(**LOCAL), RunCheckpoint(), max_epochs=3)
    left = [f"{'0' * 64}.state", ".state.12.partial"]
    for name in [*left, "notes.txt"]:
        (STAYING / name).write_text("")
    fit(CyclicalWeightTransfer(**LOCAL), RunCheckpoint(), max_epochs=2)
    assert (STAYING / "notes.txt").exists()
    assert not any((STAYING / name).exists() for name in left)


# -- resumed ---------------------------------------------------------------------------------------------------------


def resumed(path: Any, folder: str, *callbacks: Callback, **kwargs: Any) -> str:
    module = SmallModule()
    trainer(*callbacks, default_root_dir=Path(folder), **{"max_epochs": 9, **kwargs}).fit(
        module, SmallData(), ckpt_path=path
    )
    return hashed(module)


def make() -> list[Callback]:
    return [CyclicalWeightTransfer(**LOCAL), Scaffold()]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_a_run_resumes_from_any_checkpoint_moved_with_its_folder_or_made_elsewhere() -> None:
    whole = ModelCheckpoint("whole", save_top_k=-1, every_n_epochs=1)
    expected = hashed(fit(*make(), whole, RunCheckpoint(keep=100), max_epochs=9))
    shutil.move(STEPS, "moved")
    paths = sorted(Path("moved").glob("step_*"))
    for path in [paths[3], paths[6], sorted(Path("whole").glob("*"))[4]]:
        assert resumed(path, f"again_{path.stem}", *make(), RunCheckpoint()) == expected
    own = {path.parent.parent.parent.name for path in Path().glob("again_*/checkpoints/staying/*")}
    assert len(own) == 3, "a run that begins with another's state has files of its own"


@pytest.mark.slow
def test_a_run_that_goes_back_before_its_newest_checkpoints_loses_nothing() -> None:
    expected = hashed(fit(*make(), RunCheckpoint(keep=100), max_epochs=9))
    older = sorted(STEPS.glob("step_*"))[2]
    assert resumed(older, ".", *make(), RunCheckpoint()) == expected  # what it writes first is not among the newest two


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_checkpoints_of_lightning_are_whole() -> None:
    expected = hashed(fit(*make(), max_epochs=9, enable_checkpointing=False))
    model = ModelCheckpoint("pickles", save_top_k=-1, every_n_epochs=1, save_on_train_epoch_end=True)
    fit(*make(), model, max_epochs=6)
    [path] = Path("pickles").glob("epoch=4*")
    assert resumed(path, "again", *make()) == expected
    assert not list(Path().rglob("*.state"))


def test_a_copy_without_its_folder_says_what_is_missing_and_still_has_the_weights() -> None:
    fit(*make(), RunCheckpoint(), max_epochs=5)
    newest = newest_checkpoint(".")
    assert newest is not None
    Path("copy").mkdir()
    copied = shutil.copy(newest, "copy")
    assert read_checkpoint(copied)["state_dict"]
    with pytest.raises(
        InputError, match=r"copy/staying/\w{64}\.state is missing.*the folder 'staying' that was beside"
    ):
        resumed(copied, "again", *make(), RunCheckpoint())


def test_a_checkpoint_whose_files_are_gone_is_passed_over() -> None:
    fit(*make(), RunCheckpoint(), max_epochs=5)
    older, newest = sorted(STEPS.glob("step_*"))
    (STAYING / next(iter(named(newest) - named(older)))).unlink()
    with pytest.warns(UserWarning, match="is missing.*passed over"):
        assert newest_checkpoint(".") == older


# -- damaged or made up ----------------------------------------------------------------------------------------------


def test_another_files_content_is_noticed() -> None:
    part = {"callbacks": FileBacked({"x": torch.ones(2)}), "others": FileBacked({"x": torch.zeros(2)})}
    staying_files.put_away(part, Path("staying").resolve())
    write_checkpoint(part, Path("a.ckpt"))
    found = read_checkpoint("a.ckpt")
    assert torch.equal(found["others"].get()["x"], torch.zeros(2))
    shutil.copy(found["others"].path, found["callbacks"].path)
    with pytest.raises(InputError, match="another content than the one that its name stands for"):
        found["callbacks"].get()
    found["callbacks"].path.write_bytes(b"x" * 200)
    with pytest.raises(InputError, match="not a file that lit_dist wrote"):
        found["callbacks"].get()


@pytest.mark.parametrize(
    "name", ["../a.state", f"{'0' * 64}.state/x", "0.state", 3, None, ["a"], f"{'0' * 64}.state\n"]
)
def test_what_is_no_name_of_such_a_file_is_refused(name: Any) -> None:
    tensor_file.write(Path("a.ckpt"), {}, json.dumps({"a": {"!": "file", "of": name}}))
    with pytest.raises(InputError, match=r"a\.ckpt is damaged"):
        read_checkpoint("a.ckpt")


def test_a_message_names_no_file() -> None:
    with pytest.raises(ValueError, match="KeyError"):
        state_tree.decode(f'{{"a":{{"!":"file","of":"{"0" * 64}.state"}}}}', {})

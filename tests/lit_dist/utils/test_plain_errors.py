from pathlib import Path

import pytest
import yaml
from one_sentence import refused

from lit_dist.cli.main import main
from lit_dist.utils.plain_errors import nearest

CONFIG = yaml.safe_load((Path(__file__).parents[3] / "configs/phantom/cyclical.yaml").read_text())
FIT = ["fit", "--config", "own.yaml", "--data.size=32", "--data.patients=24", "--model.backbone=slim_resnet18"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--trainer.max_epoch=3", "there is no option --trainer.max_epoch; did you mean --trainer.max_epochs"),
        ("--max_epochs=3", "did you mean --trainer.max_epochs?"),
        ("--lr=3", "did you mean --model.optimizer.lr?"),
        ("extra", "the word 'extra' belongs to no option"),
        ("--data.bach_size=3", "no setting data.bach_size of PhantomDataModule; did you mean batch_size?"),
        ("--model.optimizer.lrr=3", "no setting model.optimizer.lrr of Adam; did you mean lr?"),
        ("--data=PhantomDataModul", "data: there is no class PhantomDataModul; did you mean PhantomDataModule?"),
        ("--model.optimizer=torch.optim.Adamm", "there is no class torch.optim.Adamm; did you mean Adam or"),
        ("--model.optimizer=os.system", "model.optimizer: os.system is nothing that a run is made of; name a class"),
        ("--trainer.callbacks=CyclicalWeigthTransfer", "did you mean CyclicalWeightTransfer?"),
        ("--trainer.precision=bf16-mixd", "trainer.precision is bf16-mixd, which is not one of"),
        ("--model.lr_scheduler_interval=epoc", "not one of epoch, step; did you mean epoch?"),
        ("--data.num_workers=x", "data.num_workers is x, which is not a whole number"),
        ("--data.mean=[1]", "data.mean is [1], which is not tuple with 3 elements"),
        ("--model.optimizer.lr=nan", "model.optimizer.lr is nan, which is not a number"),
        ("--model.backbone=resnt34", "no classification network 'resnt34'; did you mean resnet34"),
        ("--model=nowhere.yaml", "model: "),
    ],
)
def test_what_is_mistyped_says_what_may_have_been_meant(
    word: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("own.yaml").write_text(yaml.safe_dump(CONFIG))
    assert said in refused([*FIT, word], capsys)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("max_epochs:", "max_epoch:", "there is no setting 'trainer.max_epoch'; did you mean trainer.max_epochs"),
        ("seed_everything:", "seed_everthing:", "did you mean seed_everything?"),
        ("batch_size:", "bach_size:", "no setting data.bach_size of PhantomDataModule; did you mean batch_size?"),
        ("save_dir:", "savedir:", "no setting trainer.logger.savedir of CSVLogger; did you mean save_dir?"),
        (
            "sites: 4",
            "partition: {class_path: DirichletPartition, init_args: {alfa: 1}}\n    sites: 4",
            "no setting data.partition.alfa of DirichletPartition; it has alpha, smallest",
        ),
        ("ImageClassifier", "ImageClasifier", "there is no class ImageClasifier; did you mean ImageClassifier?"),
        ("optim.Adam", "optim.Adm", "model.optimizer: there is no class torch.optim.Adm; did you mean Adam or"),
        ("validation: cycle", "validation: cylce", "is cylce, which is not one of trainer, cycle; did you mean cycle?"),
        ("sites: 4", "sites: x", "data.sites is x, which is not a whole number or a list"),
    ],
)
def test_so_does_what_is_mistyped_in_a_configuration(
    old: str, new: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = yaml.safe_dump(CONFIG)
    assert old in text
    Path("own.yaml").write_text(text.replace(old, new))
    assert said in refused(["fit", "--config", "own.yaml"], capsys)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fitt"], "there is no command 'fitt'; did you mean fit?"),
        (["compare", "--sed=1"], "there is no option --sed; did you mean --seeds?"),
        (["prepare", "--image=3"], "there is no option --image; did you mean --images?"),
        (["verify", "a", "b"], "the word 'b' belongs to no option"),
        (["verify", "a", "--repaly=1"], "did you mean --replay?"),
        (["federate", "--local", "--absent=skp"], "argument --absent: invalid choice: 'skp'"),
        (["federate", "--local", "--timeout=-1"], "argument --timeout: -1 is not a number of seconds"),
    ],
)
def test_each_command_ends_so(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in refused(words, capsys)


def test_nothing_is_suggested_where_nothing_looks_alike() -> None:
    assert nearest("zebra", ["batch_size", "trainer.max_epochs"]) == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("fit", "name a model and data, in a configuration: --config FILE"),
        ("fit --data.root /data", "--data.root belongs to no class yet: name one (--data.class_path NAME)"),
        ("fit --model.num_classes 2", "--model.num_classes belongs to no class yet"),
        ("prepare --data.root /data", "--data.root belongs to no class yet"),
        ("prepare --config configs/phantom/cyclical.yaml --data.sits 3", "did you mean sites or splits?"),
    ],
)
def test_what_has_no_class_says_how_to_name_one(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(words.split())
    assert said in capsys.readouterr().err

"""``lit-dist predict RUN --images``: new images, as somebody who has nothing but a run's folder would."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from fake_mammograms import draw_film, write_dicom, write_mini_mias, write_pgm, write_png
from lit_dist.cli.main import main
from lit_dist.datamodules import PhantomDataModule
from lit_dist.study.run import Run

pytestmark = pytest.mark.slow


def write_phantoms(folder: Path, site: str) -> None:
    """The test images of a site of the run, without loss."""
    data = PhantomDataModule(patients=20, size=32)
    dataset = data.dataset([site], "test")
    folder.mkdir()
    for number, name in enumerate(dataset.table["image"]):
        Image.fromarray(dataset.pixels[dataset.slots[number]]).save(folder / f"{name}.png")


def test_new_images_get_what_the_run_itself_predicts_and_those_that_are_none_are_listed(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_phantoms(Path("hospital"), "site-2")
    Path("hospital/broken.jpg").write_bytes(b"\xff\xd8\xff")
    Path("hospital/Thumbs.db").write_bytes(b"")
    main(["predict", str(run), "--images", "hospital"])
    out = capsys.readouterr().out
    assert "3 of 4 are predicted: hospital_predictions.csv" in out
    assert "Passed over, as no images: Thumbs.db" in out
    assert "broken.jpg: " in out
    table = pd.read_csv("hospital_predictions.csv", keep_default_na=False)
    assert list(table) == ["image", "prediction", "healthy", "referable", "problem"]
    assert table["problem"].ne("").tolist() == [name == "broken.jpg" for name in table["image"]]
    expected = pd.read_csv(run / "predictions.csv").query("site == 'site-2'").set_index("image")
    for _, row in table[table["problem"] == ""].iterrows():
        same = expected.loc[row["image"].removesuffix(".png")]
        found = [float(row["healthy"]), float(row["referable"])]
        assert found == pytest.approx([same["probability_0"], same["probability_1"]], abs=1e-5)
        assert row["prediction"] == ["healthy", "referable"][int(np.argmax(found))]


def test_a_table_keeps_its_columns_and_a_class_gives_way_to_one_of_its_name(run: Path, tmp_path: Path) -> None:
    write_phantoms(Path("hospital"), "site-1")
    names = sorted(path.stem for path in Path("hospital").iterdir())
    known = pd.DataFrame({"image": [*names, "gone"], "age": [71, 72, 73, 74], "healthy": ["?", "", "", ""]})
    known.to_csv("hospital/list.csv", index=False)
    main(["predict", str(run), "--images", "hospital/list.csv", "--output", "out/found.csv"])
    table = pd.read_csv("out/found.csv", keep_default_na=False)
    assert list(table) == ["image", "age", "healthy", "prediction", "probability of healthy", "referable", "problem"]
    assert table["age"].tolist() == [71, 72, 73, 74]
    assert table["problem"].tolist() == ["", "", "", "there is no such image in hospital"]


def test_an_ensemble_of_a_study_is_used_by_its_folder(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    for name in ("one", "other"):
        shutil.copytree(run, f"study/runs/{name}/fit")
        Run(name, "single_institution", 0, 1, config).write(Path("study"))
        Path(f"study/runs/{name}/result.json").write_text("{}")
    Run("both", "ensemble", 0, 1, {name: config[name] for name in ("data", "trainer")}, members=("one", "other")).write(
        Path("study")
    )
    write_phantoms(Path("hospital"), "site-1")
    for folder, name in (
        (run, "own.csv"),
        (Path("study/runs/both"), "ensemble.csv"),
        (Path("study/runs/one"), "1.csv"),
    ):
        main(["predict", str(folder), "--images", "hospital", "--output", name])
    tables = [pd.read_csv(name) for name in ("own.csv", "ensemble.csv")]
    assert Path("1.csv").read_text() == Path("own.csv").read_text()
    assert list(tables[1]) == ["image", "prediction", "healthy", "referable", "problem"]
    assert tables[0]["referable"].to_numpy() == pytest.approx(tables[1]["referable"].to_numpy(), abs=1e-6)


def found(run: Path, name: str, *words: str) -> pd.DataFrame:
    main(["predict", str(run), "--images", name, f"--output={name}.csv", *words])
    return pd.read_csv(f"{name}.csv").assign(image=lambda table: table["image"].str.removesuffix(".png"))


def test_a_site_is_predicted_with_its_own_statistics_and_a_new_hospital_with_those_of_its_images(
    run_by_site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_phantoms(Path("site-2"), "site-2")
    own = found(run_by_site, "site-2", "--site=site-2")
    expected = pd.read_csv(run_by_site / "predictions.csv").query("site == 'site-2'")
    assert own["referable"].to_numpy() == pytest.approx(expected["probability_1"].to_numpy(), abs=1e-5)
    assert set(own["statistics"]) == {"batch normalisation of site site-2"}
    Path("site-2").rename("new")
    new = found(run_by_site, "new", "--statistics=estimate")
    assert abs(new["referable"] - own["referable"]).max() > 1e-4
    assert set(new["statistics"]) == {
        "batch normalisation estimated from 3 of these images, which are few: 32 or more are better"
    }
    assert "Statistics: batch normalisation estimated from 3 of these images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--site NAME for one of site-1, site-2, site-3, site-4, or --statistics estimate for a new hospital"),
        (["--site", "site2"], "this run has no site 'site2'; its sites are site-1, site-2, site-3, site-4; did you"),
        (["--site", "site-1", "--statistics", "estimate"], "give one of them"),
        (["--statistics", "estimate"], "need 2 images at least, and 1 can be read here"),
    ],
)
def test_whose_statistics_are_meant_has_to_be_said(
    run_by_site: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("new").mkdir()
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save("new/a.png")
    with pytest.raises(SystemExit):
        main(["predict", str(run_by_site), "--images", "new", *words])
    assert message in capsys.readouterr().err


def test_a_run_is_told_by_what_is_in_its_folder_too(run: Path) -> None:
    write_phantoms(Path("hospital"), "site-1")
    for number, name in enumerate(("", "checkpoints", "config.yaml", "checkpoints/best.ckpt")):
        main(["predict", str(run / name), "--images", "hospital", f"--output={number}.csv"])
    assert len({Path(f"{number}.csv").read_text() for number in range(4)}) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--images", "new"], "say which run, and of what: lit-dist predict RUN --images FOLDER"),
        (["RUN"], "say which run, and of what"),
        (["nowhere", "--images", "new"], "there is no folder nowhere: name a run's"),
        (["UP", "--images", "new"], "cyclical holds several runs: name one of "),
        (["new", "--images", "new"], "new/config.yaml is not the configuration"),
        (["RUN", "--images", ""], "say which run, and of what"),
        (["RUN", "--images", "gone"], "there is no gone: give a folder"),
        (["RUN", "--images", "empty"], "empty holds no images"),
        (["RUN", "--images", "new", "--output", "there.csv"], "there.csv is there already"),
        (["RUN", "--images", "new", "--site", "site-1"], "one model for all sites, with nothing of a site's own"),
        (["RUN", "--images", "new", "--statistics", "estimate"], "has no batch normalisation"),
        (["RUN", "--images", "new", "--checkpoint", "no.ckpt"], "no.ckpt"),
        (["--run", "RUN", "--images", "new"], "--run is not for new records: give the run's folder itself"),
        (["RUN", "--images", "bad"], "none of the 1 images can be read:\na.png: it is not an image"),
        (["RUN", "--images", "new/list.csv"], "has a column 'problem', which the predictions have: rename it"),
    ],
)
def test_what_cannot_be_predicted_is_said(
    run: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("new", "bad", "empty"):
        Path(folder).mkdir()
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save("new/a.png")
    Path("new/list.csv").write_text("image,problem\na.png,none\n")
    Path("bad/a.png").write_text("no image")
    Path("there.csv").write_text("")
    given = {"RUN": str(run), "UP": str(run.parent)}
    with pytest.raises(SystemExit) as end:
        main(["predict", *(given.get(word, word) for word in words)])
    assert end.value.code == 1
    assert message in capsys.readouterr().err


def test_films_of_any_format_are_prepared_as_the_runs_where_its_collection_is_not(tmp_path: Path) -> None:
    write_mini_mias(Path("mias"))
    main(["fit", "--config", "configs/mammography/cyclical.yaml", "--data.root=mias", "--data.size=32",
          "--data.task=density", "--model.num_classes=3", "--model.backbone=squeezenet1_1", "--trainer.max_epochs=4",
          "--data.num_workers=0", "--trainer.enable_progress_bar=false", "--seed_everything=6",
          "--model.optimizer.init_args.lr=0.0001"])  # fmt: skip
    shutil.rmtree("mias")
    film = (draw_film(5, size=(120, 90)) >> 8).astype(np.uint16) * 257
    write_png(Path("new/b.png"), film)
    write_pgm(Path("new/a.pgm"), film)
    write_dicom(Path("new/c"), film)
    Image.fromarray((film >> 8).astype(np.uint8)).convert("RGBA").save("new/d.tif")
    main(["predict", "runs/mammography/cyclical/version_0", "--images", "new"])
    table = pd.read_csv("new_predictions.csv")
    assert list(table)[1:-1] == ["prediction", "fatty", "glandular", "dense"]
    assert len(table) == 4
    assert table["dense"].to_numpy() == pytest.approx([table["dense"][0]] * 4, abs=1e-3)
    assert table["dense"][0] != pytest.approx(1 / 3, abs=1e-3), "a network that says nothing would hide any fault"


def test_new_people_are_predicted_by_the_rules_of_the_runs_table(
    run_on_table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_csv(run_on_table / "patients.csv", dtype=str, keep_default_na=False)
    expected = pd.read_csv(run_on_table / "predictions.csv").set_index("image")
    people = table[table["id"].isin(expected.index)][["id", "height", "smoker", "weight", "blood"]]
    people.to_csv("people.csv", index=False, sep=";")
    main(["predict", str(run_on_table), "--table", "people.csv"])
    found = pd.read_csv("people_predictions.csv", keep_default_na=False)
    assert list(found) == ["id", "remarks", "prediction", "no", "yes", "problem"]
    assert found["yes"].to_numpy() == pytest.approx(expected.loc[found["id"], "probability_1"].to_numpy(), abs=1e-6)
    odd = people.head(3).assign(weight=["", "70", "70"], blood=["A", "Bombay", "A"]).drop(columns="id")
    odd.to_csv("odd.csv", index=False)
    main(["predict", str(run_on_table), "--table", "odd.csv"])
    found = pd.read_csv("odd_predictions.csv", keep_default_na=False)
    assert found["row"].tolist() == [2, 3, 4]
    assert found["remarks"].tolist() == ["no weight", "blood 'Bombay' is unknown to the model", ""]
    assert "2 records have missing values or unknown categories" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        ("weight,height,smoker\n1,2,0\n", [], "has no column 'blood'; it has weight, height, smoker"),
        ("weight,height,smoker,blood\n1,tall,0,A\n", [], "new.csv, row 2: height is 'tall', which is no number"),
        ("weight,height,smoker,blood,yes,prediction\n1,2,0,A,1,2\n", [], "has a column 'prediction', which the pred"),
        (
            "weight,height,smoker,blood,remarks\n1,2,0,A,none\n",
            [],
            "has a column 'remarks', which the pred",
        ),
        ("weight,height,smoker,blood\n1,2,0,A\n", ["--site=a"], "nothing of a site's own: leave --site out"),
        ("weight,height,smoker,blood\n1,2,0,A\n", ["--column=id"], "a run on a table knows its columns"),
    ],
)
def test_a_table_that_does_not_fit_is_said(
    run_on_table: Path, text: str, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("new.csv").write_text(text)
    with pytest.raises(SystemExit):
        main(["predict", str(run_on_table), "--table", "new.csv", *words])
    assert message in capsys.readouterr().err


def test_images_and_tables_are_not_mixed_up(run: Path, run_on_table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("new.csv").write_text("image\na.png\n")
    for words, message in ((["--table", "new.csv"], "PhantomDataModule, not of a table: give --images"),
                           (["--images", "new.csv"], "TabularDataModule: give --table")):  # fmt: skip
        with pytest.raises(SystemExit):
            main(["predict", str(run if "--table" in words else run_on_table), *words])
        assert message in capsys.readouterr().err

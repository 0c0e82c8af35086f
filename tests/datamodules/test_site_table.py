import pandas as pd
import pytest

from lit_dist.datamodules.site_table import print_sites, summarise
from lit_dist.tasks.classification import Classification


def table(labels: list[int], splits: list[str] | None = None, site: str = "a") -> pd.DataFrame:
    names = [str(number) for number in range(len(labels))]
    return pd.DataFrame({"patient": names, "site": site, "split": splits or "train", "label": labels})


def test_classes_are_counted_among_the_training_images() -> None:
    both = pd.concat(
        [table([0, 0, 1, 1], ["train", "train", "train", "test"]), table([1, 1], ["train", "val"], site="b")]
    )
    found = summarise(both, ["b", "a"], Classification(["well", "ill"])).to_dict("records")
    assert [row["site"] for row in found] == ["b", "a"]
    counts = {"records": 4, "patients": 4, "train": 3, "val": 0, "test": 1, "well": 2, "ill": 1}
    assert found[1] == {"site": "a", **counts, "majority": 0.667}


def test_of_many_classes_it_says_how_unequal_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    labels = [0] * 5 + [1] * 2 + [7] * 9
    row = summarise(table(labels), ["a"], Classification([f"class {number}" for number in range(40)])).to_dict(
        "records"
    )[0]
    assert (row["classes"], row["fewest"], row["most"]) == (3, 2, 9)
    print_sites(table(labels), ["a"], Classification([f"class {number}" for number in range(40)]))
    assert "…" not in capsys.readouterr().out


def test_a_class_may_be_called_as_a_column_is() -> None:
    row = summarise(table([0, 1, 1], ["train", "train", "val"]), ["a"], Classification(["train", "ill"])).to_dict(
        "records"
    )[0]
    assert (row["train"], row["class train"], row["ill"]) == (2, 1, 1)


def test_what_is_left_out_stands_beside_each_site_with_the_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    both = pd.concat([table([0, 1]), table([0, 1], site="b")])
    left_out = {("a", "of grade 1"): 3, ("a", "missing"): 1, ("b", "of grade 1"): 2}
    assert summarise(both, ["a", "b"], Classification(["well", "ill"]), left_out)["left out"].tolist() == [4, 2]
    print_sites(both, ["a", "b"], Classification(["well", "ill"]), left_out=left_out)
    assert "Left out: 5 records of grade 1; 1 records missing" in capsys.readouterr().out


def test_classes_may_differ_in_how_an_accent_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    print_sites(table([0, 1]), ["a"], Classification(["caf\u00e9", "cafe\u0301"]))
    assert "caf\u00e9" in capsys.readouterr().out

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_dist.datamodules import CountPartition, DirichletPartition, EqualPartition, SizePartition
from lit_dist.datamodules.partition import Partition, allot
from lit_dist.datamodules.splits import (
    NUMBER,
    assign_sites,
    assign_splits,
    check_splits,
    number_patients,
    read_splits,
    write_splits,
)
from lit_dist.utils.errors import InputError

LABELS = np.array([0] * 300 + [1] * 100)
SITES = ["a", "b", "c", "d"]


def assign(partition: Partition, seed: int = 0) -> np.ndarray:
    return partition.assign(LABELS, SITES, np.random.default_rng(seed))


def counts(assigned: np.ndarray) -> list[list[int]]:
    return [[int(((assigned == site) & (label == LABELS)).sum()) for label in (0, 1)] for site in range(4)]


def test_equal_sites_have_equal_mixtures() -> None:
    assert counts(assign(EqualPartition())) == [[75, 25]] * 4
    assert (assign(EqualPartition()) != assign(EqualPartition(), seed=1)).any()


def test_sizes_are_met_with_the_same_mixture() -> None:
    for (healthy, ill), size in zip(counts(assign(SizePartition([4, 2, 1, 1]))), (200, 100, 50, 50), strict=True):
        assert healthy + ill == size
        assert ill == pytest.approx(size / 4, abs=1)


def test_given_counts_are_met_exactly_and_the_rest_is_left_out() -> None:
    wanted = [[10, 50], [50, 10], [0, 20], [100, 0]]
    assigned = assign(CountPartition(wanted))
    assert counts(assigned) == wanted
    assert (assigned == -1).sum() == 400 - 240


def test_counts_come_from_a_file_too(tmp_path: Path) -> None:
    rows = ["site,n,cases,controls", "centre-1,5,2,3", "centre-2,1,1,0", "centre-3,9,0,9", "centre-4,2,1,1"]
    (tmp_path / "sizes.csv").write_text("\n".join(rows))
    partition = CountPartition(file=str(tmp_path / "sizes.csv"), columns=["controls", "cases"])
    assert counts(assign(partition)) == [[3, 2], [0, 1], [9, 0], [1, 1]]
    with pytest.raises(InputError, match="has no column 'ill'"):
        CountPartition(file=str(tmp_path / "sizes.csv"), columns=["ill"])
    (tmp_path / "sizes.csv").write_text("site,cases,controls\na,1,2\nb,1.5,2\n")
    with pytest.raises(InputError, match=r"row 3: cases is '1.5', which is no number from 0"):
        CountPartition(file=str(tmp_path / "sizes.csv"), columns=["controls", "cases"])


def test_a_small_alpha_skews_the_labels_and_a_large_one_does_not() -> None:
    def spread(alpha: float) -> float:
        rates = [
            [ill / (healthy + ill) for healthy, ill in counts(assign(DirichletPartition(alpha), s))] for s in range(20)
        ]
        return float(np.std(rates, axis=1).mean())

    assert spread(0.3) > 5 * spread(1000)
    assert min(sum(row) for row in counts(assign(DirichletPartition(0.1, smallest=20)))) >= 20


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: assign(SizePartition([1, 2])), "4 sites, but 2 sizes"),
        (lambda: SizePartition([1, 0, 2, 1]), "not positive"),
        (lambda: assign(CountPartition([[1, 1]])), "4 sites, but counts for 1"),
        (lambda: assign(CountPartition([[1, 40]] * 4)), "ask for 160 patients of label 1, but there are 100"),
        (lambda: CountPartition([[1, -1]]), "not one list of numbers"),
        (lambda: CountPartition(), "takes counts, or a file and its columns"),
        (lambda: CountPartition([[1, 1]], "sizes.csv", ["n"]), "takes counts, or a file and its columns"),
        (lambda: CountPartition(file="sizes.csv"), "takes counts, or a file and its columns"),
        (lambda: assign(CountPartition(file="sizes.csv", columns=["n"])), "there is no table at sizes.csv"),
        (lambda: DirichletPartition(0), "alpha=0"),
        (lambda: assign(DirichletPartition(0.01, smallest=99)), "take a larger alpha"),
    ],
)
def test_refusals(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=200),
    shares=st.lists(st.floats(0.01, 5), min_size=1, max_size=8),
    seed=st.integers(0, 99),
)
def test_allotments_have_exact_sizes_and_nearly_even_labels(labels: list[int], shares: list[float], seed: int) -> None:
    dealt = allot(np.array(labels), shares, np.random.default_rng(seed))
    exact = np.array(shares) / sum(shares)
    sizes = np.bincount(dealt, minlength=len(shares))
    assert (np.abs(sizes - exact * len(labels)) < 1).all()
    for label in set(labels):
        of_label = np.array(labels) == label
        got = np.bincount(dealt[of_label], minlength=len(shares))
        # The bins take turns, so a run of any length gets each bin's share to within the turns of its neighbours.
        assert (np.abs(got - sizes / len(labels) * of_label.sum()) <= 2 + len(shares) / 4).all()


# -- splits ----------------------------------------------------------------------------------------------------------


def table(patients: int, images_each: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    names = [f"p{patient}" for patient in rng.permutation(patients) for _ in range(images_each)]
    images = [f"{name}_{number}" for number, name in enumerate(names)]
    frame = pd.DataFrame({"image": images, "patient": names, "label": rng.integers(0, 3, len(names))})
    return frame.sample(frac=1, random_state=seed).reset_index(drop=True)


@given(st.integers(4, 120), st.integers(1, 5), st.integers(0, 50), st.floats(0, 0.4), st.floats(0, 0.4))
def test_no_patient_is_ever_in_two_places(patients: int, each: int, seed: int, val: float, test: float) -> None:
    placed = assign_splits(
        assign_sites(table(patients, each, seed), ["a", "b"], EqualPartition(), seed), val, test, seed
    )
    check_splits(placed, "here")
    assert len(placed) == patients * each
    for _, rows in placed.groupby("site"):
        people = rows.groupby("patient")["split"].first().value_counts()
        assert abs(people.get("val", 0) - val * people.sum()) < 1.001
        assert abs(people.get("test", 0) - test * people.sum()) < 1.001


def test_a_large_table_is_dealt_out_as_one_patient_after_the_other_would_be() -> None:
    images = table(patients=3000, images_each=4, seed=5)
    placed = assign_splits(assign_sites(images, SITES, EqualPartition(), 7), 0.2, 0.1, 7)
    highest = {name: max(rows["label"]) for name, rows in images.groupby("patient")}
    dealt = EqualPartition().assign(np.array([highest[name] for name in sorted(highest)]), SITES, rng(7, 0))
    site_of = {name: SITES[number] for name, number in zip(sorted(highest), dealt, strict=True)}
    split_of = {}
    for site in SITES:
        own = [name for name in sorted(highest) if site_of[name] == site]
        bins = allot(np.array([highest[name] for name in own]), [1 - 0.2 - 0.1, 0.2, 0.1], rng(7, 1))
        split_of |= {name: ["train", "val", "test"][number] for name, number in zip(own, bins, strict=True)}
    assert placed["image"].tolist() == images["image"].tolist()
    assert placed["site"].tolist() == [site_of[name] for name in images["patient"]]
    assert placed["split"].tolist() == [split_of[name] for name in images["patient"]]


def test_patients_that_were_numbered_before_are_dealt_out_the_same() -> None:
    images = table(patients=300, images_each=3, seed=2)[::-1].reset_index(drop=True)
    images["held_out"] = images["patient"].isin(images["patient"][:30])
    for one in (images, images.drop(columns="held_out")):
        placed, numbered = (
            assign_splits(assign_sites(table, SITES, CountPartition([[1, 9, 40]] * 4), 3), 0.2, 0.1, 3)
            for table in (one, number_patients(one))
        )
        assert placed.equals(numbered.drop(columns=NUMBER))
        check_splits(numbered, "here")
        with pytest.raises(InputError, match="is in more than one site"):
            check_splits(numbered.assign(**{NUMBER: 0}), "here")


def test_patients_that_are_left_out_leave_the_order_of_the_others() -> None:
    images = table(patients=200, images_each=3, seed=1).assign(label=0)
    placed = assign_sites(images, ["a", "b"], CountPartition([[30], [50]]), 0)
    assert placed.groupby("site")["patient"].nunique().to_dict() == {"a": 30, "b": 50}
    assert placed["image"].tolist() == images.loc[images["patient"].isin(placed["patient"]), "image"].tolist()


def rng(*seeds: int) -> np.random.Generator:
    return np.random.default_rng(seeds)


def test_a_site_draws_its_split_without_knowing_the_others() -> None:
    placed = assign_sites(table(60, 2, 0), ["a", "b"], EqualPartition(), 0)
    together = assign_splits(placed, 0.2, 0.2, 0)
    alone = assign_splits(placed[placed["site"] == "b"].reset_index(drop=True), 0.2, 0.2, 0)
    assert alone["split"].tolist() == together.loc[together["site"] == "b", "split"].tolist()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("site", "b", "patient 'p0' is in more than one site: a, b"),
        ("split", "test", "patient 'p0' is in more than one split: test, train"),
        ("split", "training", "'training' is not a split"),
        ("image", "other", "there is no record 'other' in the data"),
        ("label", "1", "record 'p0_0' has the label '1' there"),
        ("patient", "p9", "record 'p0_0' has the patient 'p9' there"),
    ],
)
def test_a_tampered_table_of_splits_is_refused(tmp_path: Path, column: str, value: str, message: str) -> None:
    images = pd.DataFrame({"image": ["p0_0", "p0_1", "p1_0"], "patient": ["p0", "p0", "p1"], "label": [0, 0, 1]})
    placed = images.assign(site=["a", "a", "b"], split=["train", "train", "val"])
    write_splits(placed, tmp_path / "splits.csv")
    assert read_splits(tmp_path / "splits.csv", images).equals(placed[["image", "site", "split", "patient", "label"]])
    tampered = placed.astype(str)
    tampered.loc[0, column] = value
    write_splits(tampered, tmp_path / "splits.csv")
    with pytest.raises(InputError, match=message):
        read_splits(tmp_path / "splits.csv", images)

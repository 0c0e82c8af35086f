from pathlib import Path

import pandas as pd

from lit_dist.report.shown_pairs import pairs_section, planned
from lit_dist.report.tables import Tables
from saved_runs import TASK, results

KINDS = {"central": "central", "ensemble": "ensemble", "single transfer": "single_weight_transfer"}


def tables_of(*pairs: tuple[str, str, float], kinds: dict[str, str] = KINDS) -> Tables:
    table = results(*((label, label, 0) for label in kinds)).assign(kind=list(kinds.values()))
    rows = [
        {"metric": metric, "first": one, "second": other, "n": 9, "difference": 0.1, "both_low": 0.0, "both_high": 0.2,
         "both_p": p / 10, "both_p_adjusted": p, "p_adjusted": p}
        for metric in ("auroc", "accuracy") for one, other, p in pairs
    ]  # fmt: skip
    summary = pd.DataFrame({"metric": "auroc", "label": list(kinds), "mean": [0.9, 0.8, 0.7, 0.75][: len(kinds)]})
    none = pd.DataFrame()
    return Tables(Path(), table, none, summary, pd.DataFrame(rows), none, TASK)


PAIRS = [("central", "ensemble", 0.5), ("central", "<mine>", 0.3), ("ensemble", "<mine>", 0.4)]
OWN = {"central": "central", "ensemble": "ensemble", "<mine>": "callbacks"}


def test_a_sentence_takes_the_place_of_pairs_that_do_not_differ() -> None:
    text = pairs_section(tables_of(*PAIRS, kinds=OWN))
    assert "No pair of heuristics differs by AUROC" in text
    assert "that of central and &lt;mine&gt;: a difference of 0.100 (0.000 to 0.200), p 0.030, adjusted 0.300" in text
    assert text.index("<details>") < text.index("<table")


def test_where_one_differs_those_against_central_are_shown_and_the_others_folded() -> None:
    text = pairs_section(tables_of(*PAIRS[:2], ("ensemble", "<mine>", 0.01), kinds=OWN))
    shown, _, rest = text.partition("<details>")
    assert "No pair" not in text
    assert shown.count("<tr>") == 2
    assert "All 3 pairs" in rest
    assert "By accuracy" in rest


def test_the_best_transfer_is_compared_with_what_other_callbacks_make() -> None:
    kinds = {**OWN, "swt": "single_weight_transfer"}
    pairs = [*PAIRS, ("central", "swt", 0.5), ("ensemble", "swt", 0.5), ("<mine>", "swt", 0.5)]
    found = planned(tables_of(*pairs, kinds=kinds))
    assert found[["first", "second"]].to_numpy().tolist() == [
        ["central", "ensemble"], ["central", "<mine>"], ["central", "swt"], ["<mine>", "swt"]
    ]  # fmt: skip


def test_without_central_the_best_is_compared_with_all() -> None:
    kinds = {"a": "callbacks", "b": "callbacks", "c": "callbacks"}
    found = planned(tables_of(("a", "b", 0.5), ("a", "c", 0.5), ("b", "c", 0.5), kinds=kinds))
    assert found["first"].tolist() == ["a", "a"]


def test_one_heuristic_has_no_pairs() -> None:
    assert "but one heuristic" in pairs_section(tables_of(kinds={"central": "central"}))

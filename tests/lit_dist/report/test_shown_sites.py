from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lit_dist.report.shown_sites import sites_table
from lit_dist.report.tables import Tables
from saved_runs import TASK, results


def shown(sites: int, heuristics: int) -> str:
    labels = [f"h{n}" for n in range(heuristics)]
    rows = [
        {"label": label, "site": f"site-{n}", "n": 10 + n, "value": 0.9 - n / 100, "low": 0.5, "high": 1.0}
        for label in labels
        for n in range(sites)
    ]
    rows[0]["low"] = rows[0]["value"] = np.nan
    none = pd.DataFrame()
    table = results(*((label, label, 0) for label in labels))
    return sites_table(
        Tables(Path(), table, none, none, none, none, TASK, main=labels[:3], each_site=pd.DataFrame(rows))
    )


def test_few_sites_are_columns_and_the_worst_is_bold() -> None:
    text = shown(4, 9)
    assert text.count("<th>") == 5
    assert "site-3<br>n = 13" in text
    assert text.count("<strong>0.870 (0.500 to 1.000)</strong>") == text.count("<strong>") == 9
    assert "<details>" not in text
    assert "nan" not in text


@pytest.mark.parametrize(("sites", "folded"), [(20, False), (40, True)])
def test_of_many_sites_the_main_heuristics_are_columns(sites: int, folded: bool) -> None:
    text = shown(sites, 9)
    assert text.count("<th>") == 2 + 3
    assert ("<details>" in text) is folded
    assert text.index("site-2<") < text.index("site-10<")


def test_one_site_needs_no_table() -> None:
    assert shown(1, 2) == ""

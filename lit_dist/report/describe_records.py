"""Writes down what a study's datamodule knows of its records."""

from typing import Any

import pandas as pd

from lit_dist.datamodules.site_records import SiteRecords
from lit_dist.datamodules.table_1 import characteristics, flow
from lit_dist.study.continued import FLOW, TABLE_1


def describe_records(data: Any) -> list[tuple[str, pd.DataFrame]]:
    """Who the records are of and which were not used, by the names of the tables' files.

    Args:
        data: A study's datamodule, prepared; of one that is not ours, nothing is known.
    """
    if not isinstance(data, SiteRecords):
        return []
    data.setup("fit")  # which finds records that cannot be read
    return [(TABLE_1, characteristics(data)), (FLOW, flow(data))]

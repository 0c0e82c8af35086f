"""Entries of a ledger, for tests of a line and of the file."""

from dataclasses import replace
from typing import Any

from lit_dist.provenance.entry import Entry

ENTRY = Entry(
    run="run",
    visit=0,
    cycle=0,
    site='Charité "Mitte" \n 東京 😀 \ud800',
    outcome="trained",
    images=28,
    steps=4,
    learning_rates_start=[0.001, 1e-300],
    learning_rates_end=[0.1 + 0.2],
    sha256_in="0" * 64,
    sha256_out="1" * 64,
    bytes=1_375_000,
    seconds=1.25,
    settings="5" * 64,
    versions={"torch": "2.14.1", "threads": "1"},
    metrics={"train_loss": 0.5, "val_auroc": None},
)


def entry(visit: int, **values: Any) -> Entry:
    """One of a sequence of visits, each of which begins with the weights of the last."""
    hand_off = {"sha256_in": str(visit) * 64, "sha256_out": str(visit + 1) * 64}
    return replace(ENTRY, visit=visit, cycle=visit // 2, site="ab"[visit % 2], **{**hand_off, **values})

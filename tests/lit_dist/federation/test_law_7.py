"""Law 7 of the design: a visit of a federation costs the same, however many came before it."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger

from lit_dist.callbacks import CyclicalWeightTransfer, RunCheckpoint, SiteEvaluation
from lit_dist.checkpoints.csv_rows import RowCount
from lit_dist.provenance import ledger
from small_federation import engine, federated, server


def make() -> CyclicalWeightTransfer:
    return CyclicalWeightTransfer(every_n_epochs=1, validation="cycle")


@pytest.mark.slow
def test_a_partial_fit_reads_nothing_again_of_what_the_run_has_written(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[str] = Counter()

    def counted(owner: Any, name: str) -> None:
        usual: Callable[..., Any] = getattr(owner, name)

        def count(*args: Any) -> Any:
            calls[name] += 1
            return usual(*args)

        monkeypatch.setattr(owner, name, count)

    counted(ledger, "parse_entry")
    counted(SiteEvaluation, "_keep_rows")
    counted(RowCount, "__init__")
    parties = engine(make, max_epochs=9)
    logger = CSVLogger("server", name="", version="")
    callbacks = [SiteEvaluation(every="visit"), RunCheckpoint()]
    server(parties, make, *callbacks, logger=logger, enable_checkpointing=True, max_epochs=9).run()
    assert calls["_keep_rows"] == calls["__init__"] == 1
    # The site's, the server's when it adds it, and when its part begins, also after the validation of a cycle.
    assert calls["parse_entry"] <= 4 * 9
    assert len(federated()) == 9

"""``lit-dist verify``: whether a run, or a study that others have sent, did what it says."""

from pathlib import Path

from lit_dist.crate.files import is_crate
from lit_dist.provenance.verify import verify
from lit_dist.utils.errors import InputError
from lit_dist.utils.plain_errors import PlainParser


def main(args: list[str]) -> None:
    """Run ``lit-dist verify`` with the words that follow it."""
    parser = PlainParser(
        prog="lit-dist verify",
        description="Check what a run has recorded: that no line of its ledger was changed, left out, moved or doubled,"
        " that every visit began with the weights that the last one ended with, and that the newest checkpoint has the"
        " weights of the last visit. Of a study that lit-dist crate has packed: that each file is as it was packed, the"
        " ledgers of all runs, that no patient is in two splits, and that the predictions give the tables.",
    )
    parser.add_argument(
        "run", type=str, help="A run's folder, such as runs/phantom/cyclical/version_0, or the crate of a study."
    )
    parser.add_argument(
        "--replay", type=int | None, metavar="VISIT", help="Train this visit again, and compare the weights."
    )
    options = parser.parse_args(args)
    run = Path(options.run)
    if is_crate(run):
        if options.replay is not None:
            raise InputError("--replay takes a run's folder: a crate has neither images nor checkpoints")
        from lit_dist.crate.check import check_crate  # heavy, and not needed for a run

        for line in check_crate(run):
            print(line)
        return
    print(verify(run))
    if options.replay is not None:
        from lit_dist.runs.replay import replay  # heavy, and not needed for the rest

        print(replay(run, options.replay))

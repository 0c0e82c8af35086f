"""``lit-dist verify``: whether a run did what its ledger says."""

from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from lit_dist.audit import audit
from lit_dist.baton import fingerprint, read_checkpoint
from lit_dist.errors import InputError
from lit_dist.ledger import read_entries
from lit_dist.run_folder import LEDGER, newest_checkpoint


def main(args: list[str]) -> None:
    """Run the command.

    Args:
        args: Its words, without ``verify``.
    """
    parser = ArgumentParser(
        prog="lit-dist verify",
        description="Check what a run has recorded: that no line of its ledger was changed, left out, moved or doubled,"
        " that every visit began with the weights that the last one ended with, and that the newest checkpoint has the"
        " weights of the last visit.",
    )
    parser.add_argument("run", type=str, help="The run's folder, such as runs/phantom/cyclical/version_0.")
    parser.add_argument(
        "--replay", type=int | None, metavar="VISIT", help="Train this visit again, and compare the weights."
    )
    options = parser.parse_args(args)
    run = Path(options.run)
    print(verify(run))
    if options.replay is not None:
        from lit_dist.replay import replay  # heavy, and not needed for the rest

        print(replay(run, options.replay))


def verify(run: str | Path) -> str:
    """Check a run's ledger, by itself and against the run's newest checkpoint.

    Args:
        run: The run's folder.

    Returns:
        What was found to be in order, as text.

    Raises:
        InputError: At the first thing that is not.
    """
    run = Path(run)
    path = run / LEDGER
    if not path.is_file():
        raise InputError(f"there is no ledger at {path}; give the folder of a run with a transfer callback")
    entries = read_entries(path)
    checkpoint = newest_checkpoint(run)
    record, kept = _record(checkpoint)
    try:
        audit(entries, record["head"] if record else None)
    except InputError as error:
        raise InputError(f"{path}, {error}") from None
    said = [f"{path}: {len(entries)} visits of {len({entry.run for entry in entries})} run(s); the chain is whole."]
    if record is None:
        said.append("There is no checkpoint, so lines that were cut off its end would not be noticed.")
    else:
        last = next((entry for entry in entries if entry.sha256 == record["head"]), None)
        if kept is not None and record["ended"] and last is not None and last.sha256_out != fingerprint(kept)[0]:
            raise InputError(f"{checkpoint} does not have the weights that visit {last.visit} ended with")
        said.append(f"{checkpoint} belongs to it.")
    return "\n".join(said)


def _record(checkpoint: Path | None) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The account of visits in a checkpoint, and its weights, if they are those that were trained."""
    if checkpoint is None:
        return None, None
    content = read_checkpoint(checkpoint)
    callbacks = content.get("callbacks")
    if not isinstance(callbacks, dict) or not isinstance(content.get("state_dict"), dict):
        raise InputError(f"{checkpoint} is not a checkpoint of a run")
    record = next((state["record"] for state in callbacks.values() if "record" in state), None)
    return record, content["state_dict"] if "averaging_state" not in content else None

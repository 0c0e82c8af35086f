"""``lit-dist predict RUN --images FOLDER``: what a run's model says of new images, without labels, sites or splits."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lit_dist.utils.atomic_write import check_folder, replacing
from lit_dist.utils.errors import InputError
from lit_dist.utils.plain_errors import PlainParser
from lit_dist.utils.quiet_lightning import quiet_lightning

if TYPE_CHECKING:  # heavy, and not needed for the help
    from lit_dist.runs.new_predictions import NewPredictions
    from lit_dist.runs.trained import TrainedRun

_SHOWN = 5


def main(args: list[str]) -> None:
    """Run ``lit-dist predict RUN`` with the words that follow ``predict``."""
    named = {word.partition("=")[0] for word in args} & {"--config", "-c", "--ckpt_path", "--run"}
    if named:
        raise InputError(
            f"{named.pop()} is not for new records: give the run's folder itself, lit-dist predict RUN --images FOLDER,"
            " and with --checkpoint another file than its best.ckpt"
        )
    options = _parser().parse_args(args)
    if not options.run or bool(options.images) == bool(options.table):
        raise InputError(
            "say which run, and of what: lit-dist predict RUN --images FOLDER, or of a run on a table --table FILE"
        )
    place = Path(options.images or options.table)
    output = Path(options.output) if options.output else _beside(place)
    _check_output(output)
    from lit_dist.export.trained_study_run import load_study_run

    with quiet_lightning():
        run = load_study_run(Path(options.run), Path(options.checkpoint) if options.checkpoint else None)
    estimated = options.statistics == "estimate"
    done, passed_over = (_images if options.images else _table)(run, place, options.column, options.site, estimated)
    with replacing(output) as file:
        done.table.to_csv(file, index=False)
    _say(done, passed_over, output)


def _images(
    run: "TrainedRun", place: Path, column: str | None, site: str | None, estimated: bool
) -> "tuple[NewPredictions, Sequence[str]]":
    from lit_dist.datamodules.images.new_images import new_images
    from lit_dist.runs.new_predictions import image_data, predict_images

    image_data(run)  # before a folder is searched in vain
    own = run.settings["data"].get("init_args", {}).get("image_column") or "image"
    found = new_images(place, [column] if column else list(dict.fromkeys(["image", own])))
    return predict_images(run, found, site, estimated), found.passed_over


def _table(
    run: "TrainedRun", place: Path, column: str | None, site: str | None, estimated: bool
) -> "tuple[NewPredictions, Sequence[str]]":
    from lit_dist.runs.new_predictions import predict_table

    if column:
        raise InputError("--column names the column with the files of images; a run on a table knows its columns")
    return predict_table(run, place, site, estimated), ()


def _parser() -> PlainParser:
    parser = PlainParser(
        prog="lit-dist predict",
        usage="lit-dist predict RUN --images FOLDER [--output FILE] [options]",
        description="Predict new images, or records of a table, by the best model of a run. They need no labels, sites"
        " or splits, and are prepared as the run's were. (With --config, and without a run's folder: Lightning's own"
        " predict, of the run's test images.)",
        allow_abbrev=False,
    )
    parser.add_argument("run", type=str, nargs="?", help="The run's folder, such as runs/phantom/cyclical/version_0.")
    parser.add_argument(
        "--images", type=str | None, help="A folder of images, a table (CSV) that names some, or one image."
    )
    parser.add_argument("--table", type=str | None, help="Of a run on a table: another one, with the same columns.")
    parser.add_argument(
        "--output", type=str | None, help="The table to write, CSV; by default <images>_predictions.csv beside them."
    )
    parser.add_argument("--column", type=str | None, help="The table's column with the files; by default `image`.")
    parser.add_argument("--checkpoint", type=str | None, help="The file with the weights; by default best.ckpt.")
    parser.add_argument("--site", type=str | None, help="The site of the run whose images these are.")
    parser.add_argument(
        "--statistics", choices=["run", "estimate"], default="run",
        help="Batch normalisation's: those of the run, or estimated from these images, for a new hospital.",
    )  # fmt: skip
    return parser


def _beside(place: Path) -> Path:
    """The table's place where none is given."""
    place = place if place.name not in ("", "..") else place.resolve()
    name = place.stem if place.is_file() else place.name
    return place.parent / f"{name or 'images'}_predictions.csv"


def _check_output(output: Path) -> None:
    """Refuse what could not be written at the end, or would replace what there is."""
    if os.path.lexists(output):
        raise InputError(f"{output} is there already: name another file with --output, or remove it")
    check_folder(output.parent)


def _say(done: "NewPredictions", passed_over: Sequence[str], output: Path) -> None:
    failed, count = done.failed, len(done.table)
    if passed_over:
        print(f"Passed over, as no images: {_listed(passed_over)}")
    if done.statistics:
        print(f"Statistics: {done.statistics}")
    if "remarks" in done.table and (remarked := int((done.table["remarks"] != "").sum())):
        print(f"{remarked} records have missing values or unknown categories, as the column `remarks` says")
    print(f"{count - len(failed)} of {count} are predicted: {output}")
    if len(failed):
        reasons = [f"{name}: {why}" for name, why in zip(failed.iloc[:, 0], failed["problem"], strict=True)]
        print(f"{len(failed)} are not, as the column `problem` says:")
        print("\n".join(reasons[:_SHOWN] + [f"... and {len(reasons) - _SHOWN} more"] * (len(reasons) > _SHOWN)))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

"""``lit-dist export``: a run's model as files that torch alone reads, with a model card."""

from pathlib import Path

from lit_dist.utils.plain_errors import PlainParser


def main(args: list[str]) -> None:
    """Run ``lit-dist export`` with the words that follow it."""
    parser = PlainParser(
        prog="lit-dist export",
        description="Write a run's model as files that torch reads without lit_dist: its weights as safetensors, the"
        " whole from prepared images, or a table's raw values, to predictions as a program (.pt2), and a model card as"
        " JSON and Markdown.",
    )
    parser.add_argument("run", type=str, help="The run's folder, such as runs/phantom/cyclical/version_0.")
    parser.add_argument("--checkpoint", type=str | None, help="The file with the weights; by default best.ckpt.")
    parser.add_argument("--output", type=str | None, help="The folder to write into; by default `export` in the run's.")
    parser.add_argument(
        "--predictions", type=str | None, help="A predictions.csv of the same weights; by default the run's own."
    )
    parser.add_argument("--site", type=str | None, help="The site whose batch normalisation the model is to have.")
    options = parser.parse_args(args)
    from lit_dist.export.exported import export  # heavy, and not needed for the help

    run = Path(options.run)
    checkpoint, predictions, output = (
        Path(given) if given else None for given in (options.checkpoint, options.predictions, options.output)
    )
    for path in export(run, checkpoint, output or run / "export", predictions, options.site):
        print(f"Written: {path}")

"""``lit-dist crate``: a study as one file for others, who can verify it."""

from pathlib import Path

from lit_dist.utils.plain_errors import PlainParser


def main(args: list[str]) -> None:
    """Run ``lit-dist crate`` with the words that follow it."""
    parser = PlainParser(
        prog="lit-dist crate",
        description="Pack a study as an RO-Crate for others: settings, plan, ledgers, predictions, tables, figures and"
        " report, with the hash of each file. Weights are not packed, nor images but for those in a report that was"
        " written with --saliency; records and patients are numbered. Others check it by `lit-dist verify CRATE`.",
    )
    parser.add_argument("study", type=str, help="The study's folder, such as studies/phantom.")
    parser.add_argument(
        "--output", type=str | None, help="A folder, or a file that ends in .zip; by default STUDY.crate.zip."
    )
    parser.add_argument("--name", type=str, default="", help="The title; by default it says the collection.")
    parser.add_argument("--author", type=str, default="", help="Who made the study.")
    parser.add_argument(
        "--licence", type=str, default="", help="The terms for others, such as CC-BY-4.0, or their address."
    )
    options = parser.parse_args(args)
    from lit_dist.crate.pack import pack, shows_images  # heavy, and not needed for the help

    study = Path(options.study)
    output = Path(options.output) if options.output else study.with_name(f"{study.resolve().name}.crate.zip")
    made = pack(study, output, options.name, options.author, options.licence)
    if shows_images(study):
        print("Its report shows images of patients; lit-dist compare without --saliency writes it without them")
    print(f"Written: {made}\nOthers check it by: lit-dist verify {made.name}")

"""``lit-dist prepare``: builds a collection's cache, and shows what the network will see of each site."""

import argparse
import re
from pathlib import Path
from typing import Any

from lit_dist.datamodules import FrozenEncoder, InstitutionDataModule, SiteDataModule
from lit_dist.datamodules.images.cached import CachedDataModule
from lit_dist.datamodules.images.contact_sheet import COLUMNS, draw_sheet
from lit_dist.datamodules.site_table import print_sites
from lit_dist.runs.class_kinds import check_kinds
from lit_dist.utils.errors import InputError
from lit_dist.utils.plain_errors import PlainParser
from lit_dist.utils.yaml_text import guard_parsers, read_yaml

guard_parsers()


def main(args: list[str]) -> None:
    """Run ``lit-dist prepare`` with the words that follow it."""
    parser = _parser(args)
    given = parser.parse_args(args)
    if given.images < 1:
        raise InputError(f"images={given.images} is not a positive number")
    check_kinds(given)
    prepare(parser.instantiate_classes(given).data, Path(given.output), given.images)


def prepare(data: SiteDataModule, output: Path, images: int = COLUMNS) -> None:
    """Build the cache, check what it holds, show the table of sites, and draw a contact sheet a site into a folder.

    Raises:
        InputError: If an image cannot be used, or there is no room for the cache.
    """
    data.prepare_data()
    shown = data.images if isinstance(data, FrozenEncoder) else data
    if isinstance(shown, CachedDataModule):
        cache = shown.cache()
        wrong = cache.check()
        if wrong:
            print(f"{wrong} prepared images had changed on the disk; this data's are prepared again")
            data.prepare_data()
        pixels = cache.open()
        for file, reason in shown.left_out.items():
            print(f"Left out: {file}: {reason}")
        print(f"The cache: {cache.folder} ({len(pixels)} images, {pixels.nbytes / 1e9:.2f} GB)")
    data.setup("prepare")
    print_sites(data.table, data.sites, data.learning_task, left_out=data.left_out_of)
    if not isinstance(shown, InstitutionDataModule):  # records that nobody can look at
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
        for number, site in enumerate(data.training_sites, start=1):
            path = output / f"{_file_name(site, number)}.png"
            draw_sheet(shown, site, images).save(path)
            print(f"A contact sheet: {path}")
    except OSError as error:
        raise InputError(f"the contact sheets cannot be written to {output}: {error.strerror or error}") from None


def _file_name(site: str, number: int) -> str:
    """A site's name, with its number where it has signs that a file's name should not have, or would hide the file."""
    name = re.sub(r"[^\w.-]", "_", site)
    return name if name == site and not name.startswith(".") else f"{number}_{name}"


def _parser(args: list[str]) -> PlainParser:
    parser = PlainParser(
        prog="lit-dist prepare",
        usage="lit-dist prepare --config FILE [--output FOLDER] [--data.SETTING VALUE ...]",
        description="Prepare the images of a collection, and draw a contact sheet a site.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", type=str, help="A configuration of fit or compare; its part `data` is used.")
    parser.add_argument("--output", type=str, default="prepared", help="The folder for the contact sheets.")
    parser.add_argument("--images", type=int, default=COLUMNS, help="How many images of a class a sheet shows.")
    parser.add_subclass_arguments(SiteDataModule, "data", required=True)
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config", type=Path)
    config = first.parse_known_args(args)[0].config
    if config is not None:
        parser.set_defaults({"data": _data(config)})
    return parser


def _data(config: Path) -> Any:
    """The part of a configuration that says what the data is; the rest is for other commands."""
    content = read_yaml(config)
    if not isinstance(content, dict) or "data" not in content:
        raise InputError(f"{config} has no part `data`")
    return content["data"]

"""What is wrong with a site.yaml is said with the file and the setting."""

from pathlib import Path

import pytest
import yaml

from lit_dist import InputError
from lit_dist.federation.site_settings import SiteSettings

FILE = Path("site.yaml")
DATA = {"class_path": "FundusDataModule"}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"max_epochs": "100"}, "max_epochs is '100'; it must be a whole number from 1"),
        ({"max_epochs": True}, "max_epochs is True"),
        ({"max_visits": 0}, "max_visits is 0"),
        ({"min_images": None}, "min_images is None"),
        ({"min_records": 0}, "min_records is 0; it must be a whole number from 1"),
        ({"metrics": "train_loss"}, r"metrics is 'train_loss'; it must be a list of names, .*, or all"),
        ({"metrics": None}, "metrics is None; it must be a list of names"),
        ({}, "does not say which metrics may leave the site; metrics must be a list of names"),
        ({"backbones": "resnet34"}, "backbones is 'resnet34'"),
        ({"modules": ["lit_dist"]}, "modules is not taken: a run names classes one by one; leave modules out, and"),
        ({"classes": "mylab.Net"}, "classes is 'mylab.Net'; it must be a list of classes"),
        ({"classes": [1]}, r"classes is \[1\]"),
        ({"folder": 7}, "folder is 7"),
        ({"data": "FundusDataModule"}, "data is 'FundusDataModule'; it must be class_path and init_args"),
        ({"data": {"root": "x"}}, "has no data with a class_path"),
        ({"trainer": {"max_epochs": 3}}, "'max_epochs' of the trainer is not the site's to set; only accelerator"),
        ({"metric": ["train_loss"]}, "there is no setting 'metric'; there are data"),
    ],
)
def test_a_setting_of_another_form_is_named(setting: dict[str, object], message: str) -> None:
    FILE.write_text(yaml.safe_dump({"data": DATA, **setting}))
    with pytest.raises(InputError, match=rf"^site\.yaml.*{message}"):
        SiteSettings.read(FILE)


@pytest.mark.parametrize("text", [None, "- a", "{", "", "data: {a: b"])
def test_a_file_that_is_none_is_named(text: str | None) -> None:
    if text is not None:
        FILE.write_text(text)
    with pytest.raises(InputError, match=r"site\.yaml"):
        SiteSettings.read(FILE)


def test_what_is_left_out_or_null_sets_no_limit() -> None:
    FILE.write_text(yaml.safe_dump({"data": DATA, "metrics": "all", "max_epochs": None}))
    assert SiteSettings.read(FILE) == SiteSettings(data=DATA)
    FILE.write_text(yaml.safe_dump({"data": DATA, "metrics": [], "max_epochs": 3, "folder": "/data"}))
    assert SiteSettings.read(FILE) == SiteSettings(data=DATA, metrics=[], max_epochs=3, folder="/data")

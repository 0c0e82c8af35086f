"""A study that takes seconds: slim networks on a few phantoms of two sites."""

from pathlib import Path
from typing import Any

import yaml

from lit_dist.study.settings import StudySettings, parsed, study_parser

SMALL: dict[str, Any] = {
    "collection": "small",
    "passes": 2,
    "heuristics": ["central", "single", "ensemble", "single_weight_transfer", "cyclical_weight_transfer"],
    "every_n_epochs": [1, 2],
    "seeds": [0],
    "single_budget": "passes",
    "jobs": 2,
    "model": {
        "class_path": "ImageClassifier",
        "init_args": {"backbone": "slim_resnet18", "backbone_kwargs": {"width": 4}},
    },
    "data": {
        "class_path": "PhantomDataModule",
        "init_args": {"sites": 2, "patients": 40, "size": 32, "batch_size": 8},
    },
    "trainer": {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False},
}


def written(path: Path, **changes: Any) -> Path:
    """The small study as a configuration file, with some settings changed."""
    path.write_text(yaml.safe_dump({**SMALL, **changes}))
    return path


def settings(*words: str, **changes: Any) -> StudySettings:
    """What the command makes of it."""
    parser = study_parser()
    return parsed(parser, parser.parse_args(["--config", str(written(Path("study.yaml"), **changes)), *words]))

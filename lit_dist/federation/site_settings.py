"""SiteSettings: what a site's own ``site.yaml`` says."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lit_dist.errors import InputError

Settings = dict[str, Any]

OF_SITE = ("accelerator", "devices", "num_nodes", "strategy", "plugins", "logger")
"""The settings of the trainer that are each site's own."""


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """A site's own settings: ``site.yaml``.

    Attributes:
        data: The datamodule of this site's images, as ``class_path`` and ``init_args``.
        trainer: What differs in this site's trainer: its hardware, and a logger of its own while the model travels.
        modules: The packages whose classes a run may name.
        backbones: The backbones that a run may train; None allows all.
        max_epochs: The greatest number of epochs of a run; None sets no limit.
        max_visits: The greatest number of a run's visits here while the model travels; None sets no limit.
        min_images: The least number of training images with which the site takes part.
        metrics: The metrics that may leave the site; None lets all.
        folder: Where the site keeps what stays between two visits; None takes a folder of the engine's.
    """

    data: Settings
    trainer: Settings = field(default_factory=dict)
    modules: Sequence[str] = ("lit_dist", "torch", "lightning")
    backbones: Sequence[str] | None = None
    max_epochs: int | None = None
    max_visits: int | None = None
    min_images: int = 1
    metrics: Sequence[str] | None = None
    folder: str | None = None

    @classmethod
    def read(cls, path: Path) -> "SiteSettings":
        """Read a ``site.yaml``.

        Raises:
            InputError: If there is none, or it has another form.
        """
        try:
            settings: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
            own = cls(**settings)
            if not all(isinstance(settings.get(name, {}), dict) for name in ("data", "trainer")):
                raise TypeError("data and trainer are settings by name")
        except FileNotFoundError:
            raise InputError("it has no site.yaml beside its startup kit's local settings") from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError) as error:
            raise InputError(f"its site.yaml cannot be used: {error}") from None
        if "class_path" not in own.data:
            raise InputError("its site.yaml has no data with a class_path")
        if own.trainer.keys() - set(OF_SITE):
            raise InputError(f"its site.yaml sets {sorted(own.trainer)[0]} of the trainer; only {', '.join(OF_SITE)}")
        return own

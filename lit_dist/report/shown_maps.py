"""A report's images of records, with the places that its models' answers rest on."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray

from lit_dist.report.html_table import escaped, number

TITLE = "Where the models look"
NOTHING = "No maps of where models look"
"""The heading where there is none, which no checklist takes for an answer."""
_LARGEST = 320
_SAID = (
    "Images of test records, as the networks get them: <strong>the page shows patients, so mind who gets it</strong>."
    " On the right, Grad-CAM: the greener and yellower a place, the more it speaks for what is predicted (of findings,"
    " for the finding, also where it is predicted to be absent); each map is"
    " scaled by its own greatest value, so that two maps do not tell which model is surer. Shown are the records that a"
    " model is surest of, which are no sample of all. Such maps show where, not why, and are easily over-read: they can"
    " look sensible where the network is not (Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018)."
)

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Case:
    """A record that a model is sure of.

    Attributes:
        site: Its site.
        truth: What it is.
        said: What it is taken for.
        chance: The predicted chance of that.
        right: Whether that is so.
        image: The prepared image, (height, width, 3).
        places: How much each place speaks for the answer, from 0, (height, width).
    """

    site: str
    truth: str
    said: str
    chance: float
    right: bool
    image: Pixels
    places: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Maps:
    """Where a run's model looks.

    Attributes:
        label: Its heuristic.
        run: Which run of it that is, as it stands behind the label.
        said: Of which layer the maps are, or why there are none; a sentence.
        cases: The records, right ones first.
    """

    label: str
    run: str
    said: str
    cases: Sequence[Case] = field(default_factory=list)


def maps_section(maps: Sequence[Maps]) -> str:
    """The maps as HTML, with their heading; nothing where nobody has asked for any."""
    if not maps:
        return ""
    shows = any(each.cases for each in maps)
    parts = [f"<h2>{TITLE}</h2>", f"<p>{_SAID}</p>"] if shows else [f"<h2>{NOTHING}</h2>"]
    for each in maps:
        parts += [f"<h3>{escaped(each.label)}, {escaped(each.run)}</h3>", f"<p>{escaped(each.said)}</p>"]
        parts += _shown(each.cases)
    return "\n".join(parts)


def _shown(cases: Sequence[Case]) -> Iterator[str]:
    for right, title in ((True, "Right"), (False, "Wrong")):
        own = [case for case in cases if case.right == right]
        if cases and not own:
            yield f"<p><strong>{title}</strong>: none.</p>"
        elif own:
            yield f'<p><strong>{title}</strong></p><div class="cases">{"".join(map(_figure, own))}</div>'


def _figure(case: Case) -> str:
    said = f"{case.site}: {case.truth}, predicted {case.said} ({number(case.chance)})"
    if not case.places.any():
        said += "; no place speaks for it"
    pictures = {"the prepared image": case.image, "its Grad-CAM": overlaid(case.image, case.places)}
    shown = "".join(f'<img alt="{alt}" src="{_encoded(picture)}">' for alt, picture in pictures.items())
    return f"<figure><div>{shown}</div><figcaption>{escaped(said)}</figcaption></figure>"


def overlaid(image: Pixels, places: NDArray[np.float32]) -> Pixels:
    """An image with the colours of a map over it, the more opaque the greater its values; all of it where that is 0."""
    share = places / places.max() if places.max() > 0 else places
    colours = matplotlib.colormaps["viridis"](share)[..., :3] * 255
    opaque = 0.7 * share[..., None]
    return np.asarray((1 - opaque) * image + opaque * colours).round().astype(np.uint8)


def _encoded(picture: Pixels) -> str:
    """A picture for the page, no larger than it is looked at there; it holds pixels alone, nothing of its file."""
    factor = _LARGEST / max(picture.shape[:2])
    if factor < 1:
        height, width = (max(1, round(side * factor)) for side in picture.shape[:2])
        picture = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()

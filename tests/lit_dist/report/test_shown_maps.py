"""A report's images: coloured where a map is, without a trace of the file, and with names as text."""

import base64
import re
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lit_dist.report.checklists import filled, plain
from lit_dist.report.contents import with_contents
from lit_dist.report.shown_maps import Case, Maps, maps_section, overlaid


def case(places: NDArray[np.float32], side: int = 8) -> Case:
    image = np.full((side, side, 3), 200, np.uint8)
    return Case("<site>", "well", "sick & <more>", 0.876, False, image, places)


def test_a_place_of_0_is_left_as_it_is_and_the_greatest_one_is_coloured() -> None:
    places = np.zeros((8, 8), np.float32)
    places[2, 3] = 1e-6
    changed = (overlaid(case(places).image, places) != 200).any(axis=2)
    assert np.argwhere(changed).tolist() == [[2, 3]]
    assert (overlaid(case(places).image, places * 0) == 200).all()


def test_the_section_shows_pictures_no_larger_than_they_are_looked_at_and_escapes_names() -> None:
    page = maps_section([Maps("<b>", "seed 0", "Of a layer.", [case(np.zeros((999, 999), np.float32), 999)])])
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    shapes = [cv2.imdecode(np.frombuffer(base64.b64decode(each), np.uint8), 1).shape for each in pictures]
    assert shapes == [(320, 320, 3)] * 2
    assert "&lt;site&gt;: well, predicted sick &amp; &lt;more&gt; (0.876); no place speaks for it" in page
    assert "<h3>&lt;b&gt;, seed 0</h3>" in page
    assert "<strong>Right</strong>: none." in page
    assert maps_section([]) == ""


def test_a_checklist_has_its_item_only_if_there_are_maps() -> None:
    for cases, place in (([case(np.ones((8, 8), np.float32))], "Where the models look"), ([], "")):
        page = with_contents(maps_section([Maps("central", "seed 0", "A sentence.", cases)]))
        items = plain(filled(page, [], elsewhere=False, earlier=Path("none.csv")))
        assert items.query("checklist == 'CLAIM' and number == '31'")["place"].item() == place
        assert "A sentence." in page

import pytest

from lit_dist.utils.errors import InputError
from lit_dist.utils.terminal_table import print_table
from lit_dist.visits.site_loader import SiteLoader
from lit_dist.visits.site_names import check_site_names

GOOD = ["mgh", "[/]", "[bold]a[/bold]", "Ward 3/4", "..", ".hidden", "Köln", "病院", "St.\u00a0Mary", "a, b", "x" * 100]
BAD = ["", " ", " a", "a\n", "a\nb", "a\0b", "a\tb", "a\u2028b", "a\u202eb", "\ud800", "x" * 101]


def test_whatever_is_read_in_one_line_is_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    check_site_names(GOOD, "sites")
    print_table("[/]", ["[/]", "n"], [[name, "[/b]"] for name in GOOD[:3]])
    shown = capsys.readouterr().out
    assert all(name in shown for name in GOOD[:3])


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_what_is_not_is_refused_wherever_it_comes_from(name: str) -> None:
    with pytest.raises(InputError, match=r"^splits\.csv: the site name .* rename the site"):
        check_site_names([name], "splits.csv")
    with pytest.raises(InputError, match="rename the site"):
        SiteLoader({"a": [1], name: [1]})

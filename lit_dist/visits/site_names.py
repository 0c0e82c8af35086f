"""What a site may be called: a name stands in tables, metrics, ledgers and messages."""

import unicodedata
from collections.abc import Iterable

from lit_dist.utils.errors import InputError

LONGEST = 100
_CONTROL = ("Cc", "Cs", "Zl", "Zp")  # line breaks, zero bytes, what UTF-8 cannot hold
_TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # the reading direction, to look like another name


def check_site_names(names: Iterable[object], where: str) -> None:
    """Raise ``InputError``, which begins with where they come from, for names that no table or message could show.

    A name is a text, neither empty nor too long, without blanks at an end, and without signs that are not printed.
    """
    for name in names:
        if not isinstance(name, str):
            raise InputError(f"{where}: the site name {name!r} is not a string")
        if not name.strip() or name != name.strip():
            raise InputError(f"{where}: the site name {name!r} is empty or has blanks at an end; rename the site")
        if any(unicodedata.category(sign) in _CONTROL or sign in _TURNS for sign in name):
            raise InputError(f"{where}: the site name {name!r} has signs that are not printed; rename the site")
        if len(name) > LONGEST:
            raise InputError(f"{where}: the site name {name[:20]!r}... has more than {LONGEST} signs; rename the site")

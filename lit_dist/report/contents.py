"""The contents of a report: its headings can be linked to, and are listed at its top."""

import re

_HEADING = re.compile(r"<h2>(.*?)</h2>", re.DOTALL)


def with_contents(page: str) -> str:
    """A page whose ``<h2>`` have names, with links to them in place of ``<nav></nav>``.

    Example:
        >>> print(with_contents("<nav></nav><h2>Sites: AUROC</h2>"))
        <nav><a href="#sites">Sites</a></nav><h2 id="sites"><a href="#sites">Sites: AUROC</a></h2>
    """
    links: dict[str, str] = {}

    def named(found: re.Match[str]) -> str:
        short = re.split(r"[:,]", found[1])[0].strip()
        base = name = re.sub(r"\W+", "-", re.sub(r"&\w+;|<[^>]*>", " ", short)).strip("-").lower() or "part"
        number = 1
        while name in links:
            number += 1
            name = f"{base}-{number}"
        links[name] = short
        return f'<h2 id="{name}"><a href="#{name}">{found[1]}</a></h2>'

    page = _HEADING.sub(named, page)
    listed = "".join(f'<a href="#{name}">{title}</a>' for name, title in links.items())
    return page.replace("<nav></nav>", f"<nav>{listed}</nav>", 1)

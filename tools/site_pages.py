"""A hook of MkDocs: pages of the repository outside ``docs/`` become pages of the site, and links to them work.

The pages are written for the repository, where ``../examples/new_remedy.py`` is a file. On the site the same link leads
to a page: README is its front, other Markdown is a page as it is, a notebook is one with what it shows, and a source
file is one with its text.
"""

import re
from pathlib import Path
from posixpath import dirname, normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1]
FRONT = "README.md"
_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
_SHORT = re.compile(r"<code>([^<]{1,36})</code>")
_OF_PANDAS = re.compile(r"<style scoped>.*?</style>", re.DOTALL)
_LOADED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(?:https?:)?//|<link\b(?![^>]*canonical)[^>]*=["']?https?://"""
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the repository's own pages, and all that they and those of ``docs/`` link to."""
    seen = set[str]()
    waiting = [each.name for each in ROOT.glob("*.md")]
    waiting += [str(each.relative_to(ROOT)) for each in ROOT.glob("examples/notebooks/*.ipynb")]
    waiting += [f"docs/{each.src_uri}" for each in files.documentation_pages()]
    while waiting:
        place = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        if place.endswith(".ipynb"):
            for name, shown in _notebook(place).items():
                files.append(File.generated(config, name, content=shown))
        elif not place.startswith("docs/"):
            content, level = _content(place)
            files.append(File.generated(config, _page(place), content=content, inclusion=level))
        if place.endswith(".md"):
            links = _LINK.finditer((ROOT / place).read_text(encoding="utf-8"))
            targets = [found for link in links if (found := _found(place, link["target"]))]
            waiting += [found for found in targets if (ROOT / found).is_file()]
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between pages, and those to folders into plain text."""
    source = page.file.src_uri
    place = FRONT if source == "index.md" else source if page.file.generated_by else f"docs/{source}"

    def to_page(link: re.Match[str]) -> str:
        found = _found(place, link["target"])
        if not found or (ROOT / found).is_dir():
            return link["text"] if found else link[0]
        return f"[{link['text']}]({relpath(_page(found), dirname(source) or '.')}{link['anchor'] or ''})"

    return _LINK.sub(to_page, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Mark short code in a line, which the style sheet keeps in one piece."""
    return _SHORT.sub(r'<code class="short">\1</code>', html)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Refuse a page that would load anything from elsewhere, by which its reader could be followed."""
    if loaded := _LOADED.search(output):
        raise PluginError(f"{page.file.src_uri} loads something from elsewhere: {output[loaded.start() :][:200]}")
    return output


def _found(place: str, target: str) -> str | None:
    """The file or folder of the repository that a link in one of its files leads to."""
    if re.match(r"\w+:", target):
        return None
    path = normpath(f"{dirname(place)}/{target}").lstrip("/")
    return path if (ROOT / path).exists() else None


def _page(place: str) -> str:
    """The page of the site for a file of the repository."""
    if place == FRONT:
        return "index.md"
    return place.removeprefix("docs/") if place.startswith("docs/") or place.endswith(".md") else f"{place}.md"


def _notebook(place: str) -> dict[str, str | bytes]:
    """The page of a notebook and its pictures, by their places on the site."""
    text, found = MarkdownExporter().from_filename(str(ROOT / place), {"unique_key": Path(place).stem})
    text = _OF_PANDAS.sub("", text).replace(
        '<table border="1" class="dataframe">', "<table>"
    )  # as the site has its own
    pictures = {f"{dirname(place)}/{name}": content for name, content in found["outputs"].items()}
    return {_page(place): text, **pictures}


def _content(place: str) -> tuple[str, InclusionLevel]:
    text = (ROOT / place).read_text(encoding="utf-8")
    if place.endswith(".md"):
        return text, InclusionLevel.INCLUDED
    language = Path(place).suffix.removeprefix(".") or "text"
    head = f"---\nsearch: {{exclude: true}}\n---\n# {place}\n\n"
    return f"{head}``````{language}\n{text}\n``````\n", InclusionLevel.NOT_IN_NAV

"""Every link of the finished site leads somewhere, whatever wrote it: Markdown, HTML in it, the theme, a docstring.

mkdocs checks the Markdown of the pages alone. A warning here ends `mkdocs build --strict`.
"""

import logging
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mkdocs.config.defaults import MkDocsConfig

LOG = logging.getLogger("mkdocs.hooks.links")


class Links(HTMLParser):
    """The places of a page that can be linked to, and its links inside the site."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.places, self.links = {""}, set[str]()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element's name, and where it leads."""
        for name, value in attrs:
            if name == "id" or (name == "name" and tag == "a"):
                self.places.add(value or "")
            elif name in ("href", "src") and value and not urlsplit(value).scheme and not value.startswith("/"):
                self.links.add(value)


def on_post_build(config: MkDocsConfig) -> None:
    """Warn of each link whose file, or whose place in it, there is not."""
    folder = Path(config.site_dir).resolve()
    pages = {path: Links(path) for path in folder.rglob("*.html") if path.name != "404.html"}
    for path, page in sorted(pages.items()):
        for link in sorted(page.links):
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or (target in pages and unquote(parts.fragment) not in pages[target].places):
                LOG.warning("%s: the link '%s' leads nowhere", path.relative_to(folder), link)

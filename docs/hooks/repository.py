"""Files of the repository that the pages link to become part of the site.

Pages link as GitHub shows them: `../benchmarks/RESULTS.md` from a guide, `docs/data.md` from the README. In the site
what lies outside of docs/ is put beneath `repository/`, pages as pages and other files as they are; the links follow.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
OUTSIDE = "repository/"
LINK = re.compile(r"(\]\()(?![a-z]+:|[#/])([^)#\s]+)")
ALWAYS = ("benchmarks/RESULTS.md", "CONTRIBUTING.md", "CHANGELOG.md")
"""What the navigation names, whether a page links to it or not."""


def address(path: Path) -> str:
    """Where a file of the repository stands among the sources of the site."""
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    return OUTSIDE + path.relative_to(ROOT).as_posix()


def origin(source: str) -> Path:
    """The file of the repository behind a source of the site."""
    return ROOT / source.removeprefix(OUTSIDE) if source.startswith(OUTSIDE) else DOCS / source


def linked(page: Path) -> list[Path]:
    """The files of the repository that a page links to."""
    targets = ((page.parent / link).resolve() for _, link in LINK.findall(page.read_text("utf-8")))
    return [target for target in targets if target.is_file() and target.is_relative_to(ROOT)]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is linked, and what that links to."""
    pages = [origin(file.src_uri) for file in files.documentation_pages()]
    waiting = [ROOT / name for name in ALWAYS] + [target for page in pages for target in linked(page)]
    while waiting:
        target = waiting.pop()
        if files.get_file_from_path(address(target)) is None:
            files.append(File.generated(config, address(target), abs_src_path=str(target)))
            waiting += linked(target) if target.suffix == ".md" else []
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let the links of a page lead to where their files stand in the site."""
    source, folder = origin(page.file.src_uri), posixpath.dirname(page.file.src_uri)

    def moved(link: re.Match[str]) -> str:
        target = (source.parent / link[2]).resolve()
        is_ours = target.is_relative_to(ROOT)
        return link[1] + (posixpath.relpath(address(target), folder or ".") if is_ours else link[2])

    return LINK.sub(moved, markdown)

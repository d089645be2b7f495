"""MkDocs hook: pages from files outside docs/, and links that work both in the repository and on the site.

README.md becomes index.md and config/README.md configuration.md. Any other file of the repository that a page links to
is copied into the site below files/, YAML as a page. A link to nothing stays as it is, so that `mkdocs build --strict`
reports it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "index.md", "config/README.md": "configuration.md"}  # file of the repository -> page
SOURCES = {page: file for file, page in PAGES.items()}
LINK = re.compile(r"(\]\()([^)#\s:]+)(#[^)\s]*)?(\))")  # [text](path#anchor), not of another site


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that lie outside docs/, and the files that pages link to."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for path in [ROOT / source for source in PAGES] + sorted((ROOT / "docs").rglob("*.md")):
        for _, link, _, _ in LINK.findall(path.read_text()):
            target = _in_repository(path.relative_to(ROOT).as_posix(), link)
            place = _on_site(target)
            if (ROOT / target).is_file() and files.get_file_from_path(place) is None:
                if target.endswith(".yaml"):  # a browser would download it
                    code = f"# {target}\n\n```yaml\n{(ROOT / target).read_text()}```\n"
                    files.append(File.generated(config, place, content=code))
                else:
                    files.append(File.generated(config, place, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turn a page's links between files of the repository into links between pages of the site."""
    place = page.file.src_uri
    source = SOURCES.get(place, f"docs/{place}")

    def moved(match: re.Match[str]) -> str:
        before, link, anchor, after = match.groups()
        target = _in_repository(source, link)
        if not (ROOT / target).is_file():
            return match[0]
        return before + posixpath.relpath(_on_site(target), posixpath.dirname(place)) + (anchor or "") + after

    return LINK.sub(moved, markdown)


def _in_repository(source: str, link: str) -> str:
    """Return the path in the repository that a link in one of its files names."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def _on_site(target: str) -> str:
    """Return a repository file's path in the site's sources."""
    if target in PAGES:
        return PAGES[target]
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return f"files/{target}" + (".md" if target.endswith(".yaml") else "")

"""MkDocs hook: pages that lie elsewhere in the repository are part of the site, and links to them work in both.

The README is the front page. Links are written as they work in the repository, such as `../studies/tasks/digits.toml`.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
README = "README.md"
TAKEN = (
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "examples/*.*",
    "studies/*/README.md",
    "studies/*/*.png",
    "benchmarks/**/*.md",
    "benchmarks/*.png",
)
LINK = re.compile(r"(\]\()([^)#\s]+)([^)]*\))")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Called by MkDocs with what lies in docs/."""
    found = {"index.md": ROOT / README}
    found |= {path.relative_to(ROOT).as_posix(): path for pattern in TAKEN for path in sorted(ROOT.glob(pattern))}
    for uri, path in found.items():
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, files: Files, **_: Any) -> str:
    """Called by MkDocs with each page."""
    place = page.file.src_uri
    origin = README if place == "index.md" else place if page.file.generated_by else f"docs/{place}"

    def moved(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link[2]))
        uri = "index.md" if target == README else target.removeprefix("docs/")
        for there in (uri, f"{uri}/{README}"):  # a folder is its README
            if files.get_file_from_path(there) is not None:
                return f"{link[1]}{posixpath.relpath(there, posixpath.dirname(place))}{link[3]}"
        return link[0]  # of another site; or MkDocs complains

    return LINK.sub(moved, markdown)

"""Hooks of mkdocs.yml: pages from outside docs/, the reference, and links that fit the site.

The documents are written for the repository, where README.md links to docs/cli.md, and docs/cli.md
to ../hipedge/cli. On the site, links between documents are translated to its pages, and links to
other files of the repository to where its source is published.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import hipedge
from hipedge import api

ROOT = Path(__file__).parents[1]
# Documents outside docs/, and their pages.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
}
DOCUMENTS = {page: document for document, page in PAGES.items()}
LINK = re.compile(r"(!?\[[^\]]*\]\()(?!https?:|mailto:|#)([^)#\s]+)")
REFERENCE = "reference.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents outside docs/, and the reference of the Python API."""
    for document, page in PAGES.items():
        text = (ROOT / document).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, REFERENCE, content=_reference()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Translate the links of a document to the site's."""
    document = DOCUMENTS.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def translate(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(document), found[2]))
        in_site = PAGES.get(target, target.removeprefix("docs/"))
        file = files.get_file_from_path(in_site)
        if file is None or file.inclusion.is_excluded():
            return f"{found[1]}{config.extra['source']}/{target}"
        return found[1] + posixpath.relpath(in_site, posixpath.dirname(page.file.src_uri))

    return LINK.sub(translate, markdown)


def _reference() -> str:
    """Return a page with the documentation of every name of the Python API."""
    groups: dict[str, list[str]] = {"Functions": [], "Values": [], "Errors": []}
    for name in hipedge.__all__:
        value: Any = getattr(api, name)
        if not isinstance(value, type):
            group = "Functions" if callable(value) else "Values"
        else:
            group = "Errors" if issubclass(value, hipedge.HipedgeError) else "Values"
        module = getattr(value, "__module__", "hipedge.types")
        module = module if module.startswith("hipedge") else "hipedge.types"
        groups[group].append(f"::: {module}.{name}")
    text = "\n\n".join(f"## {title}\n\n" + "\n\n".join(rows) for title, rows in groups.items())
    return f"# Reference\n\nEvery name can be imported from `hipedge` itself.\n\n{text}\n"

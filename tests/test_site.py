"""The documentation site's links and pictures. `make test` builds the whole of it with --strict."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest

pytest.importorskip("mkdocs", reason="needs the extra docs")
from tools import mkdocs_hook, pictures

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("page", "link", "moved"),
    [
        ("index.md", "docs/own-data.md", "own-data.md"),
        ("index.md", "config/README.md", "configuration.md"),
        ("configuration.md", "full.yaml", "files/config/full.yaml"),
        ("configuration.md", "../docs/workflow.md#clusters", "workflow.md#clusters"),
        ("fidelity.md", "../config/full.yaml", "files/config/full.yaml"),
        ("fidelity.md", "refshapes.md", "refshapes.md"),
        ("results/refshapes/table1.md", "../../../README.md", "../../index.md"),
        ("fidelity.md", "../config/gone.yaml", "../config/gone.yaml"),
        ("fidelity.md", "https://example.org/a.md", "https://example.org/a.md"),
    ],
)
def test_links_lead_to_the_same_file_on_the_site_and_in_the_repository(page, link, moved):
    place = SimpleNamespace(file=SimpleNamespace(src_uri=page))
    assert mkdocs_hook.on_page_markdown(f"see [it]({link}) here", place, None, None) == f"see [it]({moved}) here"


def test_the_method_is_drawn_with_the_pictures_that_its_page_shows(tmp_path):
    pictures.main(tmp_path)
    page = (ROOT / "docs/method.md").read_text()
    for path in tmp_path.iterdir():
        assert f"(method/{path.name})" in page and (pictures.FOLDER / path.name).is_file()
        assert cv2.imread(str(path)).std() > 20  # not a blank sheet
    assert page.count("(method/") == len([*tmp_path.iterdir()])

"""The documentation site's links and pictures. `make test` builds the whole of it with --strict."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
import yaml

pytest.importorskip("mkdocs", reason="needs the extra docs")
from mkdocs.commands.build import build as mkdocs_build
from mkdocs.config import load_config

from tools import mkdocs_hook, pictures

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("page", "link", "moved"),
    [
        ("index.md", "docs/own-data.md", "own-data.md"),
        ("index.md", "config/README.md", "configuration.md"),
        ("configuration.md", "full.yaml", "files/config/full.yaml.md"),
        ("configuration.md", "../docs/workflow.md#clusters", "workflow.md#clusters"),
        ("fidelity.md", "../config/full.yaml", "files/config/full.yaml.md"),
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


def test_the_search_finds_a_word_on_a_site_opened_from_the_disk_and_asks_no_other_place(tmp_path):
    """A site of two pages, with the project's own theme, plugins and script."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not browser:
        pytest.skip("there is no chromium")
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert {"search", "offline"} <= {name for name in config["plugins"] if isinstance(name, str)}
    config["plugins"] = [name for name in config["plugins"] if isinstance(name, str)]
    del config["nav"], config["hooks"]
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(config))
    (tmp_path / "docs/below").mkdir(parents=True)
    shutil.copy(ROOT / "docs/iframe-worker.js", tmp_path / "docs")
    (tmp_path / "docs/index.md").write_text("# Start\n\nNothing to see.\n")
    (tmp_path / "docs/below/pears.md").write_text("# Fruit\n\nA basket of pears.\n")
    mkdocs_build(load_config(str(tmp_path / "mkdocs.yml"), site_dir=str(tmp_path / "site")))
    asked = []
    with playwright.sync_playwright() as browsers:
        chromium = browsers.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        page = chromium.new_page(viewport={"width": 1300, "height": 800})
        page.set_default_timeout(60_000)
        page.on("request", lambda request: asked.append(request.url))
        for start in ("index.html", "below/pears.html"):
            page.goto((tmp_path / "site" / start).as_uri())
            page.locator("input.md-search__input").click()
            page.keyboard.type("basket")
            assert "Fruit" in page.locator(".md-search-result__item").first.inner_text()
        chromium.close()
    assert asked and all(url.startswith(("file:", "about:", "data:")) for url in asked)

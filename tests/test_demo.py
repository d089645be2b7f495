"""The page, in a headless browser: real clicks, typed words."""

import contextlib
import io
import re
import shutil
import socket
import sys

import numpy as np
import pytest
from PIL import Image

import partialres
from partialres.files import read_table
from tests.commands import evaluate, run
from tests.test_use import POINTS, write_model

RUN = "refshapes/seed0/ratio10/ours"
PLACES = ("refshapes/seed0/rec/points", f"{RUN}/res", f"{RUN}/retrain")  # of the models of steps 1, 2 and 3
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def results(data, tmp_path_factory):
    """A results folder with models of steps 1 to 3, and predictions of steps 1 and 2."""
    folder = tmp_path_factory.mktemp("results")
    shutil.copytree(data.folder / "images", folder / "refshapes/images")
    shutil.copy(data.folder / "refs.parquet", folder / "refshapes")
    for points, place in zip((2, POINTS, POINTS), PLACES, strict=True):
        (folder / place).mkdir(parents=True)
        write_model(data, folder / place, points=points)
    for place, split in ((PLACES[0], "val"), (PLACES[1], "val"), (PLACES[1], "testA")):
        evaluate(data, folder / place, folder / place, split=split)
    return folder


@pytest.fixture(scope="module")
def problems():
    """Errors that the page has logged, and addresses beyond this machine that it asked for."""
    return []


@pytest.fixture(scope="module")
def page(results, problems):
    pytest.importorskip("gradio", reason="needs gradio, of the extra [demo]")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if not BROWSER:
        pytest.skip("there is no chromium")
    from partialres import demo

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    blocks = demo.page([results / place / "model.safetensors" for place in PLACES], results, device="cpu")
    blocks.launch(server_name="127.0.0.1", server_port=port, quiet=True, prevent_thread_lock=True, share=False)
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=BROWSER, args=QUIET)
        page = browser.new_page(viewport={"width": 1400, "height": 1200})
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        local = ("data:", "blob:", f"http://127.0.0.1:{port}/")
        page.on("request", lambda each: None if each.url.startswith(local) else problems.append(each.url))
        page.goto(f"http://127.0.0.1:{port}")
        yield page
        browser.close()
    with contextlib.redirect_stdout(io.StringIO()):
        blocks.close()


def ask(page, picture, text):
    page.get_by_role("tab", name="Ask").click()
    page.get_by_label("Expression").fill("")
    if picture:
        page.locator("input[type=file]").first.set_input_files(picture)
        page.get_by_label("Remove Image").or_(page.get_by_label("Clear")).first.wait_for()
    page.get_by_label("Expression").press_sequentially(text)
    page.get_by_role("button", name="Segment").click()


def pixels(page, place):
    """The picture in a place of the page, as it came over the wire."""
    (source,) = (each.get_attribute("src") for each in page.locator(f"{place} img").all())
    return np.asarray(Image.open(io.BytesIO(page.request.get(source).body())).convert("RGB"))


def test_without_a_picture_or_words_the_page_says_what_is_missing(page, data, tmp_path):
    page.get_by_role("button", name="Play").click()
    page.get_by_text("ask about a picture first").wait_for()
    assert page.get_by_label(re.compile("number input for Point")).input_value() == "1"
    ask(page, None, "red")
    page.get_by_text("choose a picture first").wait_for()
    (tmp_path / "notes.jpg").write_text("no picture")
    ask(page, tmp_path / "notes.jpg", "red")
    page.get_by_text("cannot be read as a picture; give a JPEG, PNG or WebP file").wait_for()
    ask(page, data.pictures / data.refs["file_name"].iloc[0], "...")
    page.get_by_text("has no words; say what to look for").wait_for()


def test_an_expression_is_segmented_by_every_model_and_its_points_can_be_watched(page, data, results, problems):
    picture = data.pictures / data.refs["file_name"].iloc[0]
    ask(page, picture, "the red zebra")
    page.get_by_text("words that the model does not know: zebra").wait_for()
    for number, place in enumerate(PLACES):
        name = f"step {number + 1}: {place.removeprefix('refshapes/seed0/')}/model.safetensors"
        page.get_by_text(name, exact=True).first.wait_for()
        expected = partialres.load(results / place, device="cpu").segment(picture, "the red zebra").overlay()
        times = 480 // max(expected.shape[:2])
        page.wait_for_function(f"document.querySelector('#answer-{number} img')?.naturalWidth > 100")
        assert np.array_equal(pixels(page, f"#answer-{number}"), expected.repeat(times, 0).repeat(times, 1))
    point = page.get_by_label(re.compile("number input for Point"))
    page.wait_for_function("document.querySelector('#looked img')?.naturalWidth > 300")
    assert point.input_value() == str(POINTS)
    last, source = pixels(page, "#looked"), page.locator("#looked img").get_attribute("src")
    point.fill("2")
    point.press("Enter")
    page.wait_for_function("before => document.querySelector('#looked img').src !== before", arg=source)
    assert (pixels(page, "#looked") != last).any()
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("document.querySelector('[aria-label*=\"number input for Point\"]').value === '1'")
    page.wait_for_function(
        f"document.querySelector('[aria-label*=\"number input for Point\"]').value === '{POINTS}'"
    )  # fmt: skip
    page.get_by_role("radio").first.click()  # step 1 has two corners
    page.wait_for_function("document.querySelector('[aria-label*=\"number input for Point\"]').value === '2'")
    assert problems == []


def test_predictions_are_listed_by_words_and_shown(page, data, results, problems):
    table = read_table(results / f"{RUN}/res/val/predictions.parquet")
    word = table["expression"].str.lower().str.split().explode().mode()[0]
    page.get_by_role("tab", name="Browse").click()
    page.get_by_role("combobox", name="Model").click()
    page.get_by_role("option", name="Ours, step 2").click()
    page.get_by_role("combobox", name="Split").click()
    page.get_by_role("option", name="val").click()
    page.get_by_label("Words").press_sequentially(f"zebra {word}")
    page.get_by_role("button", name="List").click()
    page.get_by_text(f"0 of {len(table)} expressions").wait_for()
    page.get_by_label("Words").fill(word)
    page.get_by_role("button", name="List").click()
    with_word = table[table["expression"].str.lower().str.split().map(lambda words: word in words)]
    page.get_by_text(f"{len(with_word)} of {len(table)} expressions").wait_for()
    first = with_word.sort_values("iou", kind="stable").iloc[0]
    cell = page.locator("[data-testid='cell-0-1']").first
    assert cell.inner_text().strip() == first["expression"]
    cell.click()
    page.wait_for_function("document.querySelector('#predicted img')?.naturalWidth > 100")
    assert (pixels(page, "#truth") != pixels(page, "#predicted")).any()
    page.get_by_role("combobox", name="Model").click()
    page.get_by_role("option", name="Step 1").click()
    page.get_by_role("button", name="List").click()
    page.locator("[data-testid='cell-0-3']", has_text="boxes alone").first.wait_for()
    before = page.locator("#truth img").get_attribute("src")
    page.locator("[data-testid='cell-1-1']").first.click()
    page.wait_for_function("before => document.querySelector('#truth img').src !== before", arg=before)
    assert problems == []


def test_the_command_listens_on_this_machine_alone_and_refuses_in_a_line(results, tmp_path, monkeypatch):
    gradio = pytest.importorskip("gradio", reason="needs gradio, of the extra [demo]")
    launched = {}
    monkeypatch.setattr(gradio.Blocks, "launch", lambda self, **how: launched.update(how))
    model = results / f"{RUN}/res/model.safetensors"
    assert run("demo", model).exit_code == 0
    assert launched["server_name"] == "127.0.0.1" and launched["share"] is False
    answer = run("demo", tmp_path / "absent")
    assert answer.exit_code == 1 and "no such model" in answer.output
    answer = run("demo", model, "--results", tmp_path)
    assert answer.exit_code == 1 and "has no predictions.parquet of any split" in answer.output


def test_without_gradio_the_command_says_how_to_install_it(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "partialres.demo", raising=False)
    monkeypatch.delattr("partialres.demo", raising=False)
    answer = run("demo", results / f"{RUN}/res/model.safetensors")
    assert answer.exit_code == 1 and "pip install --editable '.[demo]'" in answer.output

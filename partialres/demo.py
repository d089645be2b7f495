"""Make a page to try models on: ask about a picture, watch the points being decoded, browse predictions."""

import os
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before Gradio is imported: the page calls nobody

import gradio as gr
import numpy as np
import pandas as pd

from partialres import visualise
from partialres.data.images import ImageCache, resize
from partialres.data.vocabulary import clean
from partialres.files import DataError, read_table
from partialres.geometry import boxes, contour
from partialres.model.pointer import PointModel
from partialres.report import captions
from partialres.report.evaluations import Run, run_of
from partialres.use import Decoding, Segmenter, corners, load, tinted

SECONDS = 0.4  # per point, while the outline is played
ROWS = 200  # predictions listed at once
ANY = "any"
LEAST = 480  # pixels: small pictures are enlarged, by a whole number, to at most this longer side
PICKS = ("Data set", "Masks", "Model", "Split")
COLUMNS = ["IoU", "expression", "data set", "masks", "model", "split", "seed"]


def page(models: Sequence[Path], results: Path | None = None, device: str = "auto") -> gr.Blocks:
    """Make the page. models: files, such as those of steps 1, 2 and 3. results: a results folder to browse, or None."""
    segmenters = [load(path, device) for path in models]
    places = [path.absolute() for path in models]
    shared = os.path.commonpath([place.parent for place in places])
    labels = [_label(place.relative_to(shared), each) for place, each in zip(places, segmenters, strict=True)]
    with gr.Blocks(title="partialres") as blocks:
        with gr.Tab("Ask"):
            _ask(labels, segmenters)
        if results is not None:
            with gr.Tab("Browse"):
                _browse(results)
    return blocks


def _label(path: Path, segmenter: Segmenter) -> str:
    """Name a model by its path and, for step 1 or where the workflow's folder names tell it, by its step."""
    step = "step 1" if segmenter.header["points"] == 2 else {"res": "step 2", "retrain": "step 3"}.get(path.parent.name)
    return f"{step}: {path}" if step else str(path)


def _shown(label: str, name: str, **how: Any) -> gr.Image:
    """Make a place in the page that shows a picture; name: its id in the HTML."""
    buttons: Any = ["download", "fullscreen"]
    return gr.Image(label=label, elem_id=name, format="png", interactive=False, buttons=buttons, **how)


def _enlarged(picture: np.ndarray) -> np.ndarray:
    """Enlarge a small picture by repeating its pixels, so that the browser does not blur it."""
    times = max(1, LEAST // max(picture.shape[:2]))
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def _ask(labels: Sequence[str], segmenters: Sequence[Segmenter]) -> None:
    """Lay out the tab that asks every model and shows how the chosen one decoded its points."""
    decoded = [label for label, each in zip(labels, segmenters, strict=True) if isinstance(each.model, PointModel)]
    with gr.Row():
        image = gr.Image(type="filepath", label="Picture", height=320)
        # Hand the file on unread: Gradio's own reading fails without a word.
        image.preprocess = lambda payload: payload and payload.path  # type: ignore
        with gr.Column():
            text = gr.Textbox(label="Expression", placeholder="the red drop on the left")
            button = gr.Button("Segment", variant="primary")
            note = gr.Markdown()
    with gr.Row():
        shown = [_shown(label, f"answer-{place}", height=360) for place, label in enumerate(labels)]
    state: Any = gr.State({})
    with gr.Row():
        which = gr.Radio(decoded, value=decoded[-1] if decoded else None, label="Watch the points of", scale=3)
        place = gr.Slider(1, 2, value=1, step=1, label="Point", scale=2)
        play = gr.Button("Play")
    looked = _shown("The outline, and what the point looked at", "looked")

    def ask(path: str | None, expression: str) -> list[Any]:
        if path is None:
            raise gr.Error("choose a picture first", print_exception=False)
        try:
            pairs = list(zip(labels, segmenters, strict=True))
            decodings = {label: each.decoding(path, expression) for label, each in pairs if label in decoded}
            answers = [
                decodings[label].segmentation if label in decodings else each.segment(path, expression)
                for label, each in pairs
            ]
        except DataError as error:
            raise gr.Error(str(error), print_exception=False) from None
        return [f"{labels[-1]}: {answers[-1].describe()}", *(_enlarged(each.overlay()) for each in answers), decodings]

    def choose(decodings: dict[str, Decoding], label: str) -> tuple[Any, Any]:
        if label not in decodings:
            return gr.Slider(), None
        number = len(decodings[label].points)
        return gr.Slider(maximum=number, value=number), look(decodings, label, number)

    def look(decodings: dict[str, Decoding], label: str, number: int) -> Any:
        if label not in decodings:
            return None
        return visualise.pixels(visualise.frame(decodings[label], int(number) - 1))

    def played(decodings: dict[str, Decoding], label: str) -> Iterator[tuple[int, Any]]:
        if label not in decodings:
            raise gr.Error("ask about a picture first", print_exception=False)
        for number in range(1, len(decodings[label].points) + 1):
            yield number, look(decodings, label, number)
            time.sleep(SECONDS)

    playing = play.click(played, [state, which], [place, looked])
    for asked in (button.click, text.submit):
        answered = asked(ask, [image, text], [note, *shown, state], cancels=[playing])
        answered.then(choose, [state, which], [place, looked])
    which.input(choose, [state, which], [place, looked], cancels=[playing])
    place.input(look, [state, which, place], looked, trigger_mode="always_last")


def _browse(results: Path) -> None:
    """Lay out the tab that lists predictions of a results folder and shows one of them."""
    runs = {path: run_of(path) for path in sorted(results.rglob("predictions.parquet"))}
    if not runs:
        raise DataError(f"{results}: has no predictions.parquet of any split; run the workflow first")
    about = zip(*map(_about, runs.values()), strict=True)
    columns = {label: [*dict.fromkeys(names)] for label, names in zip(PICKS, about, strict=True)}
    with gr.Row():
        picks = [gr.Dropdown([ANY, *names], value=ANY, label=label) for label, names in columns.items()]
        low = gr.Slider(0, 1, value=0, step=0.05, label="IoU from")
        high = gr.Slider(0, 1, value=1, step=0.05, label="IoU to")
        words = gr.Textbox(label="Words", placeholder="left drop")
    button, count = gr.Button("List", variant="primary"), gr.Markdown()
    listed = gr.Dataframe(headers=COLUMNS, interactive=False, max_height=260)
    rows: Any = gr.State(None)
    with gr.Row():
        truth, predicted = _shown("Truth", "truth"), _shown("Predicted", "predicted")

    def listing(*asked: Any) -> tuple[Any, ...]:
        *wanted, low, high, words = asked
        tables = [
            _predictions(path, run)
            for path, run in runs.items()
            if all(want in (ANY, own) for want, own in zip(wanted, _about(run), strict=True))
        ]
        table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*COLUMNS, "path", "row"])
        kept = table[table["IoU"].between(low, high)]
        for word in clean(words):
            kept = kept[kept["expression"].map(lambda said, word=word: word in clean(said)).astype(bool)]
        note = f"{len(kept):,} of {len(table):,} expressions; at most {ROWS} are listed, lowest IoU first"
        kept = kept.sort_values("IoU", kind="stable").head(ROWS).reset_index(drop=True)
        return note, kept[COLUMNS].round(3), kept

    def show(rows: pd.DataFrame, event: gr.SelectData) -> tuple[Any, Any]:
        chosen = rows.iloc[event.index[0]]
        return _pictures(results, Path(chosen["path"]), int(chosen["row"]))

    inputs = [*picks, low, high, words]
    for listing_asked in (button.click, words.submit):
        listing_asked(listing, inputs, [count, listed, rows])
    listed.select(show, rows, [truth, predicted])


def _about(run: Run) -> tuple[str, str, str, str]:
    """Name a run's data set, share of masks, model and split in the page's words."""
    if run.ratio is None:
        return run.dataset, "boxes alone", f"Step 1 {run.experiment}".strip(), run.split
    return run.dataset, f"{run.ratio:g} %", captions.label(run.experiment, run.step), run.split


def _predictions(path: Path, run: Run) -> pd.DataFrame:
    """Read a run's predictions as the rows of the list; in step 1 IoU is that of the box."""
    table = read_table(path)
    about = dict(zip(COLUMNS[2:], (*_about(run), run.seed), strict=True))
    listed = pd.DataFrame({"IoU": table["iou" if "iou" in table else "box_iou"], "expression": table["expression"]})
    return listed.assign(**about, path=str(path), row=np.arange(len(table)))


@lru_cache(maxsize=4)
def _images(folder: Path) -> tuple[pd.DataFrame, ImageCache]:
    return read_table(folder / "refs.parquet").set_index("ref_id"), ImageCache(folder / "images")


def _pictures(results: Path, path: Path, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the true and the predicted mask (in step 1 the boxes) of a row of predictions on the cached picture."""
    prediction = read_table(path).iloc[row]
    refs, cache = _images(results / run_of(path).dataset)
    ref = refs.loc[prediction["ref_id"]]
    picture = cache.image(cache.rows[int(ref["image_id"])])
    height, width = int(ref["height"]), int(ref["width"])

    def drawn(mask: np.ndarray) -> np.ndarray:
        shown = resize(mask.astype(np.float32), *picture.shape[:2]) > 0.5
        return _enlarged(tinted(picture, shown))

    if "mask" in prediction:
        masks = [contour.decode(each["mask"], height, width) for each in (ref, prediction)]
    else:
        points = np.array(prediction["points"].tolist())
        pair = np.array(ref["bbox"]), boxes.from_points(points)
        masks = [contour.fill(corners(box), height, width) for box in pair]
    return drawn(masks[0]), drawn(masks[1])

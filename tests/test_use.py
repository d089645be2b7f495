"""A trained model on pictures: from Python and from the command line."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import partialres
from partialres.checkpoints.model_file import save_model
from partialres.files import DataError, read_json, read_table
from partialres.geometry import contour
from partialres.model.build import build_model
from tests.commands import done, evaluate, run
from tests.tiny import SIDE, TINY

ROOT = Path(__file__).parents[1]
POINTS = 6


def write_model(data, folder, points=POINTS, **changes):
    """Write a model with weights so large that what it answers depends on picture and expression."""
    model = build_model(TINY.replace(**changes), len(data.vocabulary), points)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    save_model(model, folder / "model.safetensors", words=data.vocabulary, size=SIDE, provenance={"seed": 0})
    return folder / "model.safetensors"


@pytest.fixture(scope="module")
def model(data, tmp_path_factory):
    return write_model(data, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def segmenter(model):
    return partialres.load(model, device="cpu")


@pytest.fixture
def picture(data):
    return data.pictures / data.refs["file_name"].iloc[0]


@pytest.fixture
def text(data):
    return data.refs["expressions"].iloc[0][0]


def same(first, second):
    assert first.picture.shape == second.picture.shape
    return np.array_equal(first.contour, second.contour) and np.array_equal(first.mask, second.mask)


# ------------------------------------------------------------------------------------------------------ what comes out


@pytest.mark.parametrize(
    "kind", [{}, {"frozen": "none"}, {"head": "mask", "cctf": False, "pmca": False}, {"points": 2}], ids=str
)
def test_a_picture_of_the_data_set_gets_what_evaluate_wrote(data, tmp_path, kind):
    path = write_model(data, tmp_path, **kind)
    features = []
    if kind.get("frozen", "all") == "all":
        section = partialres.load(path).model.config.model_dump_json()
        done("cache-features", path, "--images", data.folder / "images", "--model", section, "--out", tmp_path / "f")
        features = ["--features", tmp_path / "f"]
    evaluate(data, tmp_path, tmp_path, *features)
    table, refs = read_table(tmp_path / "val/predictions.parquet"), data.refs.set_index("ref_id")
    pairs = [(data.pictures / refs.at[row.ref_id, "file_name"], row.expression) for row in table.itertuples()]
    answers = partialres.load(path, device="cpu").segment_many(pairs)
    if "mask" in table:
        assert [contour.encode(answer.mask) for answer in answers] == table["mask"].tolist()
    if "head" not in kind:
        for answer, points in zip(answers, table["points"], strict=True):
            expected = np.array(points.tolist())
            assert np.array_equal(answer.contour[::2] if len(expected) == 2 else answer.contour, expected) or (
                len(expected) == 2 and np.array_equal(answer.box, contour_box(expected))
            )
    assert len({tuple(answer.box) for answer in answers}) > 3  # they do differ


def contour_box(points):
    low, high = points.min(axis=0), points.max(axis=0)
    return np.concatenate([low, high - low])


def test_an_answer_has_the_pictures_size_its_contour_box_and_probabilities(segmenter, picture, text):
    answer = segmenter.segment(picture, text)
    height, width = cv2.imread(str(picture)).shape[:2]
    assert answer.mask.shape == (height, width) and answer.mask.dtype == bool
    assert answer.contour.shape == (POINTS, 2) and answer.probabilities.shape == (2 * POINTS,)
    assert np.array_equal(answer.mask, contour.fill(answer.contour, height, width))
    assert np.allclose(answer.box, contour_box(answer.contour))
    assert ((answer.probabilities > 0) & (answer.probabilities <= 1)).all()
    overlay = answer.overlay()
    assert overlay.shape == (height, width, 3) and overlay.dtype == np.uint8
    assert (answer.picture == cv2.imread(str(picture))[..., ::-1]).all()


def test_a_model_of_step_1_gives_a_box_as_its_mask(data, tmp_path, picture, text):
    answer = partialres.load(write_model(data, tmp_path, points=2)).segment(picture, text)
    assert answer.contour.shape == (4, 2) and np.allclose(contour_box(answer.contour), answer.box)


def test_words_that_the_model_does_not_know_and_does_not_read_are_told(segmenter, picture, data):
    limit = data.vocabulary.max_words
    answer = segmenter.segment(picture, "the Zebra, " + "red " * limit)
    assert answer.unknown_words == ("zebra",) and answer.unread_words == ("red", "red")
    assert "does not know: zebra" in answer.describe() and "the last 2 words were not read" in answer.describe()
    assert same(answer, segmenter.segment(picture, "the Zebra, " + "red " * 1000))


def test_paths_pil_images_and_arrays_mean_the_same_and_any_order_is_kept(segmenter, picture, text, data):
    pixels = cv2.imread(str(picture))[..., ::-1]
    other = data.pictures / data.refs["file_name"].iloc[-1]
    pairs = [(picture, text), (str(picture), "red"), (other, text), (Image.fromarray(pixels), text), (pixels, "red")]
    answers = segmenter.segment_many(pairs)
    assert same(answers[0], answers[3]) and same(answers[1], answers[4])
    for pair, answer in zip(pairs, answers, strict=True):
        assert same(answer, segmenter.segment(*pair)) and answer.expression == pair[1]
    assert segmenter.segment_many([]) == []


def test_exif_rotation_is_honoured_alpha_dropped_and_grey_becomes_rgb(segmenter, picture, text, tmp_path):
    pixels = np.asarray(Image.open(picture))
    upright = segmenter.segment(pixels, text)
    turned = Image.fromarray(np.rot90(pixels))  # lies on its left side: EXIF orientation 6 turns it back
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation
    turned.save(tmp_path / "turned.png", exif=exif)
    alpha = np.dstack([pixels, np.zeros(pixels.shape[:2], dtype=np.uint8)])
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    for source in (tmp_path / "turned.png", Image.open(tmp_path / "turned.png"), tmp_path / "alpha.png", alpha):
        assert same(upright, segmenter.segment(source, text))
    grey = Image.open(picture).convert("L")
    grey.save(tmp_path / "grey.png")
    answers = [segmenter.segment(each, text) for each in (tmp_path / "grey.png", grey, np.asarray(grey))]
    assert same(answers[0], answers[1]) and same(answers[1], answers[2])


# -------------------------------------------------------------------------------------------------------- what it takes


def test_the_package_is_imported_fast_and_torch_only_when_a_model_is_loaded(model):
    code = (
        "import sys, time; start = time.perf_counter(); import partialres; took = time.perf_counter() - start;"
        "assert took < 0.1, took; assert 'torch' not in sys.modules; partialres.load(sys.argv[1]);"
        "assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, model], check=True, cwd=ROOT)
    with pytest.raises(AttributeError, match="no attribute 'loud'"):
        partialres.loud  # noqa: B018


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("absent.jpg", "absent.jpg: no such picture"),
        ("notes.txt", "notes.txt: cannot be read as a picture; give a JPEG"),
        ("dot.png", "dot.png is 1 x 1 pixels; give at least 8"),
        (np.zeros((20, 20, 3)), "float64 [20, 20, 3]; give uint8"),
        (np.zeros((20, 20, 2), dtype=np.uint8), "give uint8 [height, width, 3]"),
    ],
)
def test_what_is_no_picture_is_refused_in_a_line(segmenter, tmp_path, source, words):
    (tmp_path / "notes.txt").write_text("no picture")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    with pytest.raises(DataError) as caught:
        segmenter.segment(tmp_path / source if isinstance(source, str) else source, "red")
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("expression", ["", "  ", "...", "?!"])
def test_an_expression_without_words_is_refused(segmenter, picture, expression):
    with pytest.raises(DataError, match="has no words; say what to look for"):
        segmenter.segment(picture, expression)


def test_a_model_that_is_not_there_or_must_see_the_box_is_refused(data, tmp_path):
    with pytest.raises(DataError, match="no such model; give the model"):
        partialres.load(tmp_path / "absent")
    with pytest.raises(DataError, match="take the model of step 3"):
        partialres.load(write_model(data, tmp_path, view="box"))


# ---------------------------------------------------------------------------------------------------------- the command


def test_segment_writes_mask_overlay_and_numbers_of_each_expression(model, segmenter, picture, text, tmp_path):
    answer = done("segment", model.parent, picture, text, "red zebra", "--out", tmp_path, "--device", "cpu")
    assert "does not know: zebra" in answer.output
    for number, expression in ((1, text), (2, "red zebra")):
        expected, stem = segmenter.segment(picture, expression), f"{picture.stem}-{number}"
        numbers = read_json(tmp_path / f"{stem}.json")
        mask = np.asarray(Image.open(tmp_path / f"{stem}.mask.png"))
        assert np.array_equal(mask, 255 * expected.mask.astype(np.uint8))
        assert np.array_equal(np.asarray(Image.open(tmp_path / f"{stem}.overlay.png")), expected.overlay())
        assert (
            numbers["image"] == str(picture)
            and numbers["expression"] == expression
            and numbers["contour"] == expected.contour.tolist()
        )
        rle = numbers["segmentation"]
        assert np.array_equal(contour.decode(rle["counts"], *rle["size"]), expected.mask)
    assert len(list(tmp_path.iterdir())) == 6


def test_segment_takes_a_folder_and_a_csv_file(model, data, tmp_path):
    names = data.refs["file_name"].drop_duplicates().iloc[:3].tolist()
    for name in names:
        (tmp_path / name).write_bytes((data.pictures / name).read_bytes())
    (tmp_path / "notes.txt").write_text("no picture")
    done("segment", model, tmp_path, "red", "the left shape", "--out", tmp_path / "folder")
    assert len(list((tmp_path / "folder").glob("*.json"))) == 6
    rows = "".join(f'{name},"red, or blue"\n' for name in (names[0], names[1], names[0]))
    (tmp_path / "rows.csv").write_text(f"image,expression\n{rows}")
    done("segment", model, tmp_path / "rows.csv", "--out", tmp_path / "rows")
    stems = [Path(name).stem for name in names]
    written = {path.name.removesuffix(".json") for path in (tmp_path / "rows").glob("*.json")}
    assert written == {f"{stems[0]}-1", f"{stems[1]}-1", f"{stems[0]}-2"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{model}", "{picture}"], "give at least one expression"),
        (["{model}", "{picture}", ""], "has no words"),
        (["{picture}", "{picture}", "red"], "cannot be read as a model"),
        (["absent", "{picture}", "red"], "absent: no such model"),
        (["{model}", "absent.png", "red"], "absent.png: no such picture"),
        (["{model}", "{tmp}", "red"], "holds no picture"),
        (["{model}", "{tmp}/rows.csv"], "not a CSV file with the columns image and expression"),
        (["{model}", "{tmp}/rows.csv", "red"], "has its own expressions"),
        (["{model}", "{tmp}/absent.csv"], "not a CSV file"),
    ],
)
def test_segment_refuses_in_one_line(model, picture, tmp_path, arguments, words):
    (tmp_path / "rows.csv").write_text("file,text\na,b\n")
    filled = [each.format(model=model, picture=picture, tmp=tmp_path) for each in arguments]
    answer = run("segment", *filled, "--out", tmp_path / "out")
    assert answer.exit_code == 1 and words in answer.output and len(answer.output.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_is_a_file_is_named_in_one_line(model, picture, tmp_path):
    (tmp_path / "out").write_text("")
    answer = run("segment", model, picture, "red", "--out", tmp_path / "out")
    assert answer.exit_code == 1 and "a file stands where a folder is needed" in answer.output
    assert len(answer.output.splitlines()) == 1


def test_the_wheel_segments_a_picture_where_the_checkout_is_not(model, picture, tmp_path):
    pytest.importorskip("setuptools", minversion="77", reason="needs setuptools to build the wheel")
    pytest.importorskip("setuptools_scm", reason="needs setuptools-scm to build the wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "partialres"):  # building leaves files beside them
        (checkout / name).symlink_to(ROOT / name)
    subprocess.run([*build, "--wheel-dir", tmp_path, checkout], check=True, capture_output=True, text=True)
    (wheel,) = tmp_path.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    subprocess.run([*install, tmp_path / "installed", wheel], check=True, capture_output=True)
    answer = subprocess.run(
        [sys.executable, tmp_path / "installed/bin/partialres", "segment", model, picture, "red", "--out", "out"],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "installed"), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / f"out/{picture.stem}-1.overlay.png").exists()

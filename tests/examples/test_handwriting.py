"""The synthetic handwriting: visible, legible, repeatable, and what its configuration says."""

import importlib.util
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from matplotlib import get_data_path
from matplotlib.ft2font import FT2Font
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid

from privet.pipeline.config import load_config

FOLDER = Path(__file__).parents[2] / "examples" / "handwriting"
WRITERS, HELD_OUT = 150, 40


@pytest.fixture(scope="module")
def make_data():
    """The script as a module; it finds its neighbours as it does when it is run."""
    spec = importlib.util.spec_from_file_location("handwriting_make_data", FOLDER / "make_data.py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(FOLDER))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
    return module


@pytest.fixture(scope="module")
def alphabets(make_data):
    return sys.modules["alphabets"]


@pytest.fixture(scope="module")
def population(make_data):
    """(images, labels) of each writer, by split."""
    counts = {"train": WRITERS, "eval": HELD_OUT}
    return {
        split: [make_data.draw_writer(split, number, 100) for number in range(count)]
        for split, count in counts.items()
    }


def pooled(writers):
    """All images, shrunk to 14x14 in [0, 1], and their labels."""
    images = np.concatenate([images for images, _ in writers])
    shrunk = images.reshape(-1, 14, 2, 14, 2).mean((2, 4)).reshape(-1, 196) / 255
    return shrunk, np.concatenate([labels for _, labels in writers])


def rows(directory):
    """The whole table, in the order of the files."""
    return pq.read_table(sorted(directory.glob("*.parquet")))


def test_every_font_has_all_characters(alphabets):
    script, first = alphabets.SCRIPT
    fonts = alphabets.FONTS + alphabets.SERIF_FONTS
    wanted = {font: list(map(ord, alphabets.CLASSES)) for font in fonts}
    wanted[script] = wanted[script] + list(range(first, first + 52))
    for font, characters in wanted.items():
        known = FT2Font(str(Path(get_data_path(), "fonts", "ttf", f"{font}.ttf"))).get_charmap()
        assert set(characters) <= set(known), font


def test_thinning_a_bar_leaves_its_centre_line(alphabets):
    bar = np.zeros((1, 15, 40), bool)
    bar[0, 5:10, 4:36] = True
    line = alphabets.thin(bar)[0]
    assert line.any(axis=0)[8:32].all()
    assert np.flatnonzero(line[:, 8:32].any(axis=1)).tolist() == [7]


def test_thinning_keeps_every_part_of_every_glyph(alphabets):
    """A dot that thinned to nothing would make i a dotless one."""
    shapes = alphabets._rasterise("DejaVuSans")
    lines = alphabets.thin(shapes)
    touching = np.ones((3, 3))
    for character, shape, line in zip(alphabets.CLASSES, shapes, lines, strict=True):
        assert not (line & ~shape).any()
        parts = ndimage.label(shape, touching)[1]
        assert parts == (2 if character in "ij" else 1)
        assert ndimage.label(line, touching)[1] == parts, character
        assert 0 < line.sum() < 0.35 * shape.sum(), character


def test_no_writer_is_invisible_and_none_a_blot(population):
    for images, _ in population["train"] + population["eval"]:
        assert images.dtype == np.uint8
        assert images.shape[1:] == (28, 28)
        assert 12 <= images.mean() <= 60
        assert images.max(axis=(1, 2)).min() >= 130
        assert images.mean(axis=(1, 2)).min() >= 3
        assert images.mean(axis=(1, 2)).max() <= 120


def test_letters_lie_inside_their_images(population):
    images = np.concatenate([images for images, _ in population["train"]]).astype(float)
    border = np.concatenate([images[:, [0, -1]], images[:, :, [0, -1]].swapaxes(1, 2)], axis=1)
    assert border.mean() < 0.25 * images.mean()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_every_class_is_legible_across_writers(population):
    """Fitted on some writers, read from others; chance is 1 / 62."""
    images, labels = pooled(population["train"])
    others, wanted = pooled(population["eval"])
    centroids = NearestCentroid().fit(images, labels)
    assert (centroids.predict(others) == wanted).mean() > 0.45
    logistic = LogisticRegression(C=0.3, max_iter=50).fit(images, labels)
    right = logistic.predict(others) == wanted
    assert right.mean() > 0.6
    by_class = [right[wanted == label].mean() for label in range(62)]
    assert min(by_class) > 5 / 62


def test_writers_have_a_hand_of_their_own(population):
    """Two images of a letter are closer within a writer than between writers."""
    within, between = [], []
    for (images, labels), (others, other_labels) in pairwise(population["train"]):
        for label in np.unique(labels):
            own = images[labels == label].astype(float)
            theirs = others[other_labels == label].astype(float)
            if len(own) >= 2 and len(theirs):
                within.append(np.abs(own[0] - own[1]).mean())
                between.append(np.abs(own[0] - theirs[0]).mean())
    assert 5 < np.mean(within) < 0.8 * np.mean(between)


def test_sizes_and_labels_are_mildly_skewed(population):
    sizes = np.array([len(labels) for _, labels in population["train"]])
    assert 90 < sizes.mean() < 110
    assert sizes.min() >= 25
    assert sizes.max() <= 400
    assert sizes.std() > 25
    counts = np.stack([np.bincount(labels, minlength=62) for _, labels in population["train"]])
    totals = counts.sum(axis=0)
    assert totals.min() > 0.7 * totals.mean()
    assert totals.max() < 1.3 * totals.mean()
    # Variance over mean of a writer's counts is 1 for equal classes, about 1.4 for this skew.
    assert 1.2 < (counts.var(axis=1) / counts.mean(axis=1)).mean() < 1.7


def test_rows_do_not_depend_on_the_number_of_files(make_data, tmp_path):
    total = make_data.write(tmp_path / "one", writers=12, held_out=4, images=20, files=1)
    make_data.write(tmp_path / "five", writers=12, held_out=4, images=20, files=5)
    one, five = rows(tmp_path / "one"), rows(tmp_path / "five")
    assert len(list((tmp_path / "five").iterdir())) == 5
    assert len(one) == total
    assert one.equals(five)


def test_a_writer_does_not_depend_on_how_many_there_are(make_data, tmp_path):
    make_data.write(tmp_path / "few", writers=3, held_out=2, images=20, files=1)
    make_data.write(tmp_path / "more", writers=5, held_out=2, images=20, files=1)
    more = rows(tmp_path / "more")
    kept = [writer not in ("train-00003", "train-00004") for writer in more["writer"].to_pylist()]
    assert more.filter(kept).equals(rows(tmp_path / "few"))


def test_another_seed_is_another_population(make_data):
    images, _ = make_data.draw_writer("train", 0, 50, seed=0)
    again, _ = make_data.draw_writer("train", 0, 50, seed=0)
    other, _ = make_data.draw_writer("train", 0, 50, seed=1)
    held_out, _ = make_data.draw_writer("eval", 0, 50, seed=0)
    assert np.array_equal(images, again)
    assert not np.array_equal(images[:10], other[:10])
    assert not np.array_equal(images[:10], held_out[:10])


def test_other_alphabets_are_other_letters_of_the_same_classes(make_data, alphabets):
    """A public population shares no font with the private one."""
    assert not set(alphabets.ALPHABETS["plain"]) & set(alphabets.ALPHABETS["serif"])
    plain, labels = make_data.draw_writer("train", 0, 50)
    serif, same_labels = make_data.draw_writer("train", 0, 50, alphabets="serif")
    assert np.array_equal(labels, same_labels)
    assert serif.shape == plain.shape
    assert 12 <= serif.mean() <= 60
    assert not np.array_equal(plain, serif)


def test_columns_say_what_the_images_are(make_data, tmp_path):
    make_data.write(tmp_path, writers=4, held_out=2, images=20, seed=3, files=2)
    table = rows(tmp_path)
    assert table.schema.equals(make_data.SCHEMA)
    writers, splits = table["writer"].to_pylist(), table["split"].to_pylist()
    assert sorted(set(zip(writers, splits, strict=True))) == [
        ("eval-00000", "eval"),
        ("eval-00001", "eval"),
        *((f"train-{number:05d}", "train") for number in range(4)),
    ]
    images, labels = make_data.draw_writer("train", 1, 20, seed=3)
    of_writer = table.filter([writer == "train-00001" for writer in writers])
    assert of_writer["image"].to_pylist() == [image.tobytes() for image in images]
    assert of_writer["class"].to_pylist() == labels.tolist()
    assert of_writer["character"].to_pylist() == [make_data.CLASSES[label] for label in labels]


def test_row_groups_are_bounded(make_data, tmp_path):
    make_data.write(tmp_path, writers=60, held_out=0, images=400, files=1)
    file = pq.ParquetFile(next(tmp_path.iterdir()))
    groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert len(groups) >= 2
    assert all(make_data.ROWS <= group <= make_data.ROWS + 1600 for group in groups[:-1])


def test_files_of_another_call_do_not_stay(make_data, tmp_path):
    (tmp_path / "other.txt").write_text("stays")
    make_data.write(tmp_path, writers=4, held_out=1, images=5, files=5)
    make_data.write(tmp_path, writers=4, held_out=1, images=5, files=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "handwriting-00000-of-00002.parquet",
        "handwriting-00001-of-00002.parquet",
        "other.txt",
    ]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"files": 4}, "files=4 must lie between 1 and the number of writers, 3"),
        ({"files": 0}, "files=0"),
        ({"images": 0}, "images=0 must be >= 1"),
        ({"writers": 0}, "writers=0 must be >= 1"),
        ({"held_out": -1}, "held_out=-1 must be >= 0"),
        ({"seed": -1}, "seed=-1 must be >= 0"),
    ],
)
def test_wrong_number_is_named_and_old_data_stays(make_data, tmp_path, wrong, said):
    old = tmp_path / "handwriting-00000-of-00001.parquet"
    old.write_text("old")
    with pytest.raises(ValueError, match=said):
        make_data.write(tmp_path, **{"writers": 2, "held_out": 1, "files": 1, **wrong})
    assert old.read_text() == "old"


def test_script_takes_its_options(make_data, tmp_path):
    options = {"writers": 3, "held-out": 2, "images": 10, "seed": 5, "files": 2}
    options["alphabets"] = "serif"
    options["output"] = tmp_path / "data"
    given = [f"--{name}={value}" for name, value in options.items()]
    script = [sys.executable, FOLDER / "make_data.py", *given]
    said = subprocess.run(script, check=True, capture_output=True, text=True, timeout=120).stdout
    make_data.write(
        tmp_path / "same", writers=3, held_out=2, images=10, seed=5, files=1, alphabets="serif"
    )
    table = rows(tmp_path / "data")
    assert said.startswith(f"wrote {len(table)} images")
    assert table.equals(rows(tmp_path / "same"))


def test_config_names_the_columns_and_classes_that_are_written(make_data):
    data = load_config(FOLDER / "config.yaml").data
    assert data.label.names == tuple(make_data.CLASSES)
    schema = data.schema_of(data.features)
    assert set(data.columns(schema)) <= set(make_data.SCHEMA.names)
    feature = schema.features["image"]
    assert (feature.dtype, feature.example_shape) == ("uint8", (28, 28))
    assert data.patterns == (str(FOLDER / "data" / "handwriting-*.parquet"),)


def test_model_takes_bytes_and_gives_a_logit_a_class(population):
    spec = importlib.util.spec_from_file_location("handwriting_model", FOLDER / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.build_model()
    images, _ = population["train"][0]
    assert [(i.name, i.dtype.name) for i in model.inputs] == [("image", "uint8")]
    assert model(images[:3]).shape == (3, 62)
    # Bytes are scaled to at most 1: the same as floats of their values.
    np.testing.assert_array_equal(model(images[:3]), model(images[:3].astype(np.float32)))

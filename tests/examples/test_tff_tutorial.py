"""The tutorial's data: TFF's file becomes one in which every writer trains."""

import contextlib
import importlib.util
import sqlite3
from pathlib import Path

import pytest
import tensorflow as tf

from privet.components.ingest.run import survey
from privet.pipeline.config import load_config

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "tff_tutorial"


@pytest.fixture(scope="module")
def make_data():
    spec = importlib.util.spec_from_file_location("tutorial_make_data", FOLDER / "make_data.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def example(digit: int) -> bytes:
    features = {
        "pixels": tf.train.Feature(float_list=tf.train.FloatList(value=[1.0] * 784)),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[digit])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def test_every_writer_trains_and_its_test_images_are_held_out(make_data, tmp_path: Path) -> None:
    source, output = tmp_path / "emnist_all.sqlite", tmp_path / "data" / "digits.sqlite"
    with contextlib.closing(sqlite3.connect(source)) as database, database:
        database.execute("CREATE TABLE examples (split_name, client_id, serialized_example_proto)")
        rows = [
            (split, f"f000{writer}_14", example(writer))
            for split in ("digits_only_train", "digits_only_test", "all_train", "all_test")
            for writer in range(3)
            for _ in range(2)
        ]
        database.executemany("INSERT INTO examples VALUES (?, ?, ?)", rows)

    assert make_data.write(source, output) == 3

    config = load_config(FOLDER / "config.yaml", [f"data.files={output}"])
    schema, clients = survey(config.data, lambda: None)
    assert clients == 3
    assert schema.features["pixels"].shape == (28, 28)
    with contextlib.closing(sqlite3.connect(output)) as database:
        (held_out,) = zip(
            *database.execute("SELECT DISTINCT client_id FROM examples WHERE split_name = 'eval'"),
            strict=True,
        )
    assert held_out == ("f0000_14/test", "f0001_14/test", "f0002_14/test")

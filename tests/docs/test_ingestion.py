"""docs/ingestion.md: the noised statistics shown are those that such settings give."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from privet.components.ingest.config import IngestConfig
from privet.components.ingest.dp_statistics import BoundedSums, release

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "ingestion.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def shown() -> dict[str, Any]:
    (example,) = re.findall(r"^```json\n(.*?)^```$", TEXT, re.M | re.S)
    return json.loads(example)


@pytest.fixture(scope="module")
def released() -> dict[str, Any]:
    config = IngestConfig.from_mapping(
        {
            "files": "rows.csv",
            "client_id": "client",
            "features": {
                "pixels": {"columns": "pixel_{0..63}", "minimum": 0, "maximum": 16},
                "visits": {"columns": "visits"},
            },
            "label": {"column": "digit", "classes": 2},
            "dp_statistics": {"epsilon": 0.5, "delta": 1e-6, "max_examples_per_client": 50},
        }
    )
    return release(BoundedSums(config, config.schema_of(config.features)))


def test_mechanism_is_the_one_shown(shown: dict[str, Any], released: dict[str, Any]) -> None:
    documented, written = shown["mechanism"], released["mechanism"]
    assert documented.pop("statistics") == {
        name: {**one, "standard_error": pytest.approx(one["standard_error"], rel=1e-3)}
        for name, one in written.pop("statistics").items()
    }
    assert documented == written
    assert shown["withheld"] == released["withheld"]
    assert (shown["schema"], shown["private"]) == (released["schema"], released["private"])


def test_split_has_the_keys_shown(shown: dict[str, Any], released: dict[str, Any]) -> None:
    documented, written = shown["splits"]["train"], released["splits"]["train"]
    assert documented.keys() == written.keys()
    assert documented["labels"].keys() == written["labels"].keys()
    pixels, found = documented["features"]["pixels"], written["features"]["pixels"]
    assert pixels.keys() == found.keys()
    assert pixels["public_range"] == found["public_range"]
    assert pixels["histogram"]["edges"] == pytest.approx(found["histogram"]["edges"])
    assert len(pixels["histogram"]["counts"]) == len(found["histogram"]["counts"])
    sizes = documented["examples_per_client"]["histogram"]
    assert sizes["edges"] == written["examples_per_client"]["histogram"]["edges"]


def test_standard_error_of_the_mean_is_as_small_as_shown(shown: dict[str, Any]) -> None:
    split, mechanism = shown["splits"]["train"], shown["mechanism"]
    pixels = split["features"]["pixels"]
    noise = mechanism["noise_multiplier"] * mechanism["max_examples_per_client"]
    middle = (pixels["mean"] - 8) / 8
    error = 8 * noise * math.sqrt(1 + middle**2) / split["examples"]
    assert pixels["mean_standard_error"] == pytest.approx(error, abs=0.005)

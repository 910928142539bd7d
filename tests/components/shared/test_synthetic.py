"""Made-up examples lie where the schema says, and are of its shapes and dtypes."""

from typing import Any

import numpy as np
import pytest

from privet.components.shared.synthetic import synthetic_features

PIXELS = {"columns": "image", "dtype": "uint8", "shape": [3, 2], "encoding": "image"}
WORDS = {"columns": "text", "dtype": "int64", "shape": [4], "vocabulary": ["a", "b", "c"]}
TOKENS = {**WORDS, "tokens": "words", "unknown": "index"}


@pytest.mark.parametrize(
    ("feature", "dtype", "shape", "low", "high"),
    [
        (2, "float32", (2,), 0, 1),
        ({"columns": "x", "minimum": -3, "maximum": 5}, "float32", (1,), -3, 5),
        ({"columns": "x", "minimum": 2}, "float32", (1,), 2, 3),
        ({"columns": "x", "maximum": -2}, "float32", (1,), -3, -2),
        ({"columns": "x", "maximum": 16}, "float32", (1,), 0, 16),
        (PIXELS, "uint8", (3, 2), 0, 255),
        ({"columns": "x", "dtype": "uint8", "maximum": 99}, "uint8", (1,), 0, 99),
        ({"columns": "x", "dtype": "int64"}, "int64", (1,), 0, 0),
        ({"columns": "x", "dtype": "int64", "minimum": 3}, "int64", (1,), 3, 3),
        ({"columns": "x", "dtype": "int64", "minimum": 0.5, "maximum": 4.5}, "int64", (1,), 1, 4),
        (WORDS, "int64", (4,), 0, 2),
        (TOKENS, "int64", (4,), 0, 4),
    ],
)
def test_values_fill_the_public_range(
    schema_of: Any, feature: Any, dtype: str, shape: tuple[int, ...], low: float, high: float
) -> None:
    (values,) = synthetic_features(schema_of({"x": feature}, 3), 400, seed=0).values()
    assert (values.dtype, values.shape) == (dtype, (400, *shape))
    assert low <= values.min()
    assert values.max() <= high
    spread = 0.05 * (high - low)
    assert values.min() <= low + spread
    assert high - spread <= values.max()


def test_examples_follow_the_seed(schema_of: Any) -> None:
    schema = schema_of({"x": 2, "z": 3}, 3)
    one, again, other = (synthetic_features(schema, 5, seed) for seed in (1, 1, 2))
    for name in ("x", "z"):
        np.testing.assert_array_equal(one[name], again[name])
        assert not np.array_equal(one[name], other[name])

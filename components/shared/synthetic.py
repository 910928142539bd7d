"""Made-up examples of a schema: what a model can be run on where no data may be looked at."""

import numpy as np

from privet.components.shared.schema import FeatureConfig, Schema


def synthetic_features(schema: Schema, count: int, seed: int) -> dict[str, np.ndarray]:
    """Uniform values of the schema's public ranges, in batches by feature.

    A float feature without a range lies in [0, 1], a byte in 0..255. An integer without a range or
    a vocabulary is its lowest valid value: any other may be outside of what the model looks up.

    Args:
      schema: of one example.
      count: of the examples.
      seed: of the values.

    Returns:
      Feature name -> array [count, *shape] of the feature's dtype.
    """
    generator = np.random.default_rng(seed)

    def values(feature: FeatureConfig) -> np.ndarray:
        shape = (count, *feature.example_shape)
        low, high = value_range(feature)
        if feature.dtype == "float32":
            return generator.uniform(low, high, shape).astype(np.float32)
        return generator.integers(int(low), int(high), shape, endpoint=True).astype(feature.dtype)

    return {name: values(feature) for name, feature in schema.features.items()}


def value_range(feature: FeatureConfig) -> tuple[float, float]:
    """The lowest and highest value that a feature is taken to have; see synthetic_features."""
    if feature.is_text:
        return feature.index_range
    width = {"float32": 1.0, "uint8": 255.0, "int64": 0.0}[feature.dtype]
    low, high = feature.minimum, feature.maximum
    if feature.dtype != "float32":  # a bound such as 0.5 allows 1, 2, …
        low, high = (None if low is None else np.ceil(low)), (None if high is None else high // 1)
    if low is None:
        low = 0.0 if high is None or high >= 0 else high - width
    if high is None:
        high = 255.0 if feature.dtype == "uint8" else max(width, low + width)
    return low, high

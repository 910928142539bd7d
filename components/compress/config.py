"""Settings of compression."""

from typing import Literal

from privet.components.shared.configuration import Config

Scheme = Literal["float32", "float16", "dynamic_range", "int8_weights"]

SCHEMES: tuple[Scheme, ...] = ("float32", "float16", "dynamic_range", "int8_weights")


class CompressConfig(Config, frozen=True):
    """How the model that is served is made small. Every scheme is measured for the report.

    Nothing here looks at client data: the weights are already noised, and ranges come from the
    weights alone, so the guarantee of the training carries over unchanged.

    Attributes:
      quantization: the scheme that is served. `dynamic_range` is measured but cannot be served:
        TFLite then rounds activations too, and the SavedModel would answer differently.
    """

    quantization: Literal["float32", "float16", "int8_weights"] = "int8_weights"

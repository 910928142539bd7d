"""Settings of one variant: what is done to the trained model to make it small."""

import math
import re
from typing import Literal

from privet.components.shared.configuration import Config, check

Quantization = Literal["float32", "float16", "int8_weights", "dynamic_range", "int8", "int16"]

Ranges = Literal["synthetic", "public", "trained", "clients"]

MEASURED_ONLY: tuple[Quantization, ...] = ("dynamic_range", "int16")
"""Schemes in which TFLite computes what no SavedModel can repeat to the last bit."""

NEEDS_RANGES: tuple[Quantization, ...] = ("int8", "int16")
"""Schemes that round activations to ranges which are fixed beforehand."""


class FineTuningConfig(Config, frozen=True):
    """Quantization-aware training after the federated one, by tensorflow_model_optimization.

    Attributes:
      data: whose examples: `public` ones, or those of `clients`, which only a run without privacy
        may use.
      epochs: passes over the examples.
      batch_size: examples of a step.
      learning_rate: of Adam.
    """

    data: Literal["public", "clients"] = "public"
    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 1e-4

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            check(getattr(self, name) >= 1, f"{name}={getattr(self, name)} must be >= 1")
        check(
            0 < self.learning_rate < math.inf,
            f"learning_rate={self.learning_rate} must be > 0 and finite",
        )


class VariantConfig(Config, frozen=True):
    """One way to make the model small. Its parts apply in the order of the attributes.

    Attributes:
      name: by which `select`, the gate and the report know it; by default of what it does, as
        sparse80_k16_int8_weights.
      sparsity: share of the weights of every kernel that one-shot pruning sets to zero.
      scope: whether pruning takes the smallest weights of each kernel, or of all of them.
      pattern: which weights are pruned together: any; two of four in a row (`2:4`); or blocks.
      block: [rows, columns] of a block.
      clusters: distinct values that the weights of a kernel are moved to (k-means).
      fine_tuning: quantization-aware training on public data; keeps zeros and clusters.
      quantization: how the TFLite file stores the weights, and with int8, int16 and dynamic_range
        also rounds activations.
      ranges: what the ranges of activations (int8, int16) are found with: `public` data,
        `synthetic` inputs, or those that clients have `trained` with the weights. `clients` asks
        for their data, which only a run without privacy may use.
    """

    name: str | None = None
    sparsity: float = 0.0
    scope: Literal["layer", "global"] = "layer"
    pattern: Literal["unstructured", "2:4", "block"] = "unstructured"
    block: tuple[int, int] = (1, 4)
    clusters: int | None = None
    fine_tuning: FineTuningConfig | None = None
    quantization: Quantization = "float32"
    ranges: Ranges | None = None

    def __post_init__(self) -> None:
        check(
            self.name is None or re.fullmatch(r"[A-Za-z0-9][\w-]*", self.name) is not None,
            f"name={self.name!r} must be letters, digits, '-' or '_', first a letter or digit",
        )
        check(0 <= self.sparsity < 1, f"sparsity={self.sparsity} must lie in [0, 1)")
        check(
            self.pattern != "2:4" or self.sparsity == 0.5,
            f"pattern=2:4 prunes half of the weights: set sparsity: 0.5, not {self.sparsity}",
        )
        check(
            self.scope == "layer" or self.pattern != "2:4",
            "scope=global does not apply to pattern=2:4, which prunes half of every kernel",
        )
        check(
            all(size >= 1 for size in self.block),
            f"block={list(self.block)} must be two sizes >= 1",
        )
        check(
            self.clusters is None or 2 <= self.clusters <= 256,
            f"clusters={self.clusters} must lie between 2 and 256 (typical: 16 or 32)",
        )
        needs = self.quantization in NEEDS_RANGES
        check(
            (self.ranges is not None) == (needs and self.fine_tuning is None),
            f"ranges={self.ranges} with quantization={self.quantization}: int8 and int16 without "
            "fine_tuning need ranges of activations (public, synthetic or trained), no other has "
            "them",
        )
        check(
            self.fine_tuning is None or self.quantization == "int8",
            f"fine_tuning trains for quantization: int8, not {self.quantization}",
        )

    @property
    def label(self) -> str:
        """The name, given or by what the variant does."""
        if self.name is not None:
            return self.name
        parts = []
        if self.sparsity:
            parts.append(f"sparse{round(100 * self.sparsity)}")
        if self.clusters is not None:
            parts.append(f"k{self.clusters}")
        if self.fine_tuning is not None:
            parts.append("tuned")
        if self.quantization != "float32" or not parts:
            parts.append(self.quantization)
        return "_".join(parts)

    @property
    def wants_public_data(self) -> bool:
        """Whether it cannot be made without `public_data`."""
        return "public" in (self.ranges, self.fine_tuning and self.fine_tuning.data)

    @property
    def asks_for_clients(self) -> bool:
        """Whether it would look at the data of clients."""
        return "clients" in (self.ranges, self.fine_tuning and self.fine_tuning.data)

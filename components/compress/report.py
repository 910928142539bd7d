"""compression_report.json: every variant beside the trained weights as they are."""

from collections.abc import Mapping, Sequence
from typing import Any

from privet.components.compress.config import BASELINE

_DATA = ("none", "synthetic", "public", "clients")
"""What variants may be made with, from what tells least of anybody to what tells most."""


def compression_report(
    variants: Sequence[Mapping[str, Any]],
    latency: Mapping[str, Mapping[str, float]],
    failed: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The content of compression_report.json.

    Args:
      variants: what variants.build_variant gave, the baseline among them.
      latency: what latency.measure gave.
      failed: names of those that could not be built, and why.
    """
    float_bytes = next(v["bytes_gzip"] for v in variants if v["name"] == BASELINE.label)
    return {
        "schema": 2,
        "data_used": max((variant["data_used"] for variant in variants), key=_DATA.index),
        "variants": [
            {
                **variant,
                "ratio_gzip": round(float_bytes / variant["bytes_gzip"], 4),
                "latency_us": dict(latency[variant["name"]]),
            }
            for variant in variants
        ],
        "failed": [{"name": one["name"], "because": one["failed"]} for one in failed],
    }

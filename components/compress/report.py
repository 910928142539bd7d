"""compression_report.json: every variant beside the float32 model."""

from collections.abc import Mapping, Sequence
from typing import Any


def compression_report(variants: Sequence[Mapping[str, Any]], served: str) -> dict[str, Any]:
    """The content of compression_report.json.

    Args:
      variants: measurements of each scheme, with name, bytes, bytes_gzip, max_weight_error and
        saved_model.
      served: the scheme that is served.
    """
    by_name = {variant["name"]: variant for variant in variants}
    float_bytes = by_name["float32"]["bytes_gzip"]
    return {
        "schema": 1,
        "served": served,
        "data_used": "none",
        "variants": [
            {
                "name": variant["name"],
                "bytes": variant["bytes"],
                "bytes_gzip": variant["bytes_gzip"],
                "ratio_gzip": round(float_bytes / variant["bytes_gzip"], 4),
                "max_weight_error": variant["max_weight_error"],
            }
            for variant in variants
        ],
        "saved_model": by_name[served]["saved_model"],
    }

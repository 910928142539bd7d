"""Shared by the benchmarks: interleaved timing, and the one object that each prints."""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_SHOWN = ("name", "value", "unit", "ratio", "ratio_to", "bar", "holds")


def parse_arguments(description: str, workloads: Sequence[str]) -> argparse.Namespace:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--workload", choices=workloads, default=workloads[0])
    parser.add_argument("--quick", action="store_true", help="fewer repeats, for a first look")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    return parser.parse_args()


Workload = Callable[[str, bool], list[dict[str, Any]]]
"""(an empty folder, whether to be quick) -> figures."""


def run_workloads(description: str, workloads: Mapping[str, Workload]) -> None:
    """What a benchmark of several workloads does: runs those asked for, and prints."""
    arguments = parse_arguments(description, ["all", *workloads])
    chosen = workloads if arguments.workload == "all" else [arguments.workload]
    figures = []
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            figures += workloads[name](folder, arguments.quick)
    show(figures, as_json=arguments.json)


def interleaved(variants: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each variant, measured in turns so that drift hits all alike.

    The first turn warms up and does not count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for repeat in range(repeats + 1):
        for name, run in variants.items():
            started = time.perf_counter()
            run()
            if repeat:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def figure(
    name: str, value: float, unit: str, *, ratio: float, ratio_to: str, bar: float
) -> dict[str, Any]:
    """One result: a value, its ratio to the peer or limit of the same run, and the bar for it."""
    return {
        "name": name,
        "value": round(value, 4),
        "unit": unit,
        "ratio": round(ratio, 4),
        "ratio_to": ratio_to,
        "bar": bar,
        "holds": ratio >= bar,
    }


def show(figures: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Prints the figures; what one has beside the keys that `figure` gives comes last."""
    result = {
        "figures": list(figures),
        "machine": {"cores": os.cpu_count(), "system": platform.platform()},
    }
    if as_json:
        print(json.dumps(result, indent=2))
        return
    for item in figures:
        verdict = "holds" if item["holds"] else "FALLS SHORT"
        extra = {key: value for key, value in item.items() if key not in _SHOWN}
        print(
            f"{item['name']}: {item['value']:g} {item['unit']}, {item['ratio']:g} x "
            f"{item['ratio_to']} (bar {item['bar']:g}: {verdict})",
            *(f"{key} {value}" for key, value in extra.items()),
            sep="; ",
        )

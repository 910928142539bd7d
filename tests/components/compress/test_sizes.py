"""Sizes as they count, and the same bytes on every machine and day."""

import gzip
import os
from pathlib import Path

from privet.components.compress.report import compression_report
from privet.components.compress.sizes import directory_sizes, file_sizes


def test_bytes_and_gzipped_bytes_of_a_file() -> None:
    content = b"a" * 10_000
    sizes = file_sizes(content)

    assert sizes["bytes"] == 10_000
    assert sizes["bytes_gzip"] == len(gzip.compress(content, 9)) < 100


def test_folder_is_the_sum_of_its_files_but_those_left_out(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_bytes(b"1" * 300)
    (tmp_path / "two").write_bytes(b"2" * 50)
    (tmp_path / "model.tflite").write_bytes(b"3" * 7)

    assert directory_sizes(str(tmp_path))["bytes"] == 357
    assert directory_sizes(str(tmp_path), without=("model.tflite",))["bytes"] == 350


def test_folder_size_does_not_depend_on_times_or_owners(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(os.urandom(0) + b"same" * 100)
    os.utime(tmp_path / "one" / "file", (1, 1))
    (tmp_path / "one" / "file").chmod(0o600)

    assert directory_sizes(str(tmp_path / "one")) == directory_sizes(str(tmp_path / "other"))


def test_report_has_ratios_to_float32_times_and_failures() -> None:
    variants = [
        {"name": name, "bytes": 2 * size, "bytes_gzip": size, "data_used": data}
        for name, size, data in (("float32", 1000, "none"), ("int8", 300, "synthetic"))
    ]
    times = {"float32": {"1": 2.0}, "int8": {"1": 1.0}}
    report = compression_report(variants, times, [{"name": "int16", "failed": "no kernel"}])

    assert [variant["ratio_gzip"] for variant in report["variants"]] == [1.0, 3.3333]
    assert [variant["latency_us"] for variant in report["variants"]] == [{"1": 2.0}, {"1": 1.0}]
    assert report["data_used"] == "synthetic"  # the most telling of all
    assert report["failed"] == [{"name": "int16", "because": "no kernel"}]

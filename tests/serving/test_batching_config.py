"""Batching parameters: TF Serving's defaults, files and rules."""

from pathlib import Path

import pytest

from privet.components.shared.errors import ConfigError
from privet.serving.batching_config import BatchingConfig, ServerBatching, read_batching_config
from privet.serving.config import ServerConfig


def test_a_file_sets_what_it_names_and_leaves_tf_servings_defaults(tmp_path: Path) -> None:
    path = tmp_path / "batching.txt"
    path.write_text(
        "max_batch_size { value: 8 }\nbatch_timeout_micros { value: 0 }\n"
        'thread_pool_name { value: "any" }\nallowed_batch_sizes: 2\nallowed_batch_sizes: 8\n'
        "pad_variable_length_inputs: true\nnum_batch_threads { value: 3 }\n"
        "enable_large_batch_splitting { value: true }\nmax_execution_batch_size { value: 4 }\n"
    )

    assert read_batching_config(path, "batching_parameters_file") == BatchingConfig(
        max_batch_size=8,
        num_batch_threads=3,
        allowed_batch_sizes=(2, 8),
        pad_variable_length_inputs=True,
        enable_large_batch_splitting=True,
        max_execution_batch_size=4,
    )
    path.write_text("")
    found = read_batching_config(path, "batching_parameters_file")
    assert (found.max_batch_size, found.batch_timeout_micros) == (1000, 0)
    assert (found.max_enqueued_batches, found.largest_batch) == (10, 1000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_batch_size": 0}, "max_batch_size=0 must be 1 or above"),
        ({"batch_timeout_micros": -1}, "batch_timeout_micros=-1 must be 0 or above"),
        ({"num_batch_threads": 0}, "num_batch_threads=0 must be 1 or above"),
        ({"max_enqueued_batches": -1}, "max_enqueued_batches=-1 must be 0 or above"),
        ({"allowed_batch_sizes": (2, 2, 1000)}, "must be above 0 and increase"),
        ({"allowed_batch_sizes": (0, 1000)}, "must be above 0 and increase"),
        ({"allowed_batch_sizes": (2, 8)}, "last entry was 8; expected 1000"),
        (
            {"enable_large_batch_splitting": True, "max_execution_batch_size": 1001},
            "max_execution_batch_size=1001 must be from 1 to max_batch_size=1000",
        ),
    ],
)
def test_impossible_values_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BatchingConfig(**options)


def test_padded_size_is_the_next_allowed_one() -> None:
    config = BatchingConfig(max_batch_size=8, allowed_batch_sizes=(2, 8))

    assert [config.padded_size(size) for size in (1, 2, 3, 8)] == [2, 2, 8, 8]
    assert BatchingConfig().padded_size(3) == 3


def test_warm_up_sizes_are_the_allowed_ones_or_one_and_a_large_one() -> None:
    assert BatchingConfig(max_batch_size=8, allowed_batch_sizes=(2, 8)).warm_up_sizes == (2, 8)
    assert BatchingConfig().warm_up_sizes == (1, 32)
    assert BatchingConfig(max_batch_size=1).warm_up_sizes == (1,)


def test_a_versions_own_parameters_replace_the_servers_except_its_threads(tmp_path: Path) -> None:
    common = tmp_path / "common.txt"
    common.write_text("num_batch_threads { value: 3 } max_batch_size { value: 7 }")
    with_file, without = tmp_path / "1", tmp_path / "2"
    for version in (with_file, without):
        version.mkdir()
    (with_file / "batching_params.pbtxt").write_text(
        "max_enqueued_batches { value: 4 } num_batch_threads { value: 9 }"
    )

    def batching(**flags: object) -> ServerBatching:
        return ServerBatching.from_flags(ServerConfig(tmp_path, **flags))  # type: ignore[arg-type]

    assert batching().config_of(with_file) is None
    natural = batching(enable_batching=True)
    assert natural.config_of(with_file) == BatchingConfig()
    shared = batching(enable_batching=True, batching_parameters_file=common)
    expected = BatchingConfig(max_batch_size=7, num_batch_threads=3)
    assert shared.config_of(with_file) == shared.config_of(without) == expected
    own = batching(
        enable_batching=True,
        batching_parameters_file=common,
        enable_per_model_batching_parameters=True,
    )
    expected = BatchingConfig(max_enqueued_batches=4, num_batch_threads=3)
    assert own.config_of(with_file) == expected
    assert own.config_of(without) is None


def test_an_impossible_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "batching.txt"
    path.write_text("allowed_batch_sizes: 8")
    config = ServerConfig(tmp_path, enable_batching=True, batching_parameters_file=path)

    with pytest.raises(ConfigError, match=r"in .*batching\.txt; Last entry in allowed"):
        ServerBatching.from_flags(config)

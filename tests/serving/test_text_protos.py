"""TF Serving's text configuration files, as users have them."""

from pathlib import Path

import pytest

from privet.components.shared.errors import ConfigError
from privet.serving.text_protos import new_message, read_text


def test_batching_parameters_are_read_as_in_tf_servings_guide(tmp_path: Path) -> None:
    path = tmp_path / "batching.txt"
    path.write_text(
        "max_batch_size { value: 128 }\nbatch_timeout_micros { value: 0 }\n"
        "num_batch_threads { value: 2 }\nallowed_batch_sizes: 32\nallowed_batch_sizes: 128\n"
    )
    found = read_text(path, new_message("BatchingParameters"), "batching_parameters_file")
    assert (found.max_batch_size.value, found.num_batch_threads.value) == (128, 2)
    assert list(found.allowed_batch_sizes) == [32, 128]
    assert found.HasField("batch_timeout_micros")
    assert not found.HasField("max_enqueued_batches")


def test_monitoring_and_ssl(tmp_path: Path) -> None:
    path = tmp_path / "config.txt"
    path.write_text('prometheus_config { enable: true path: "/metrics" }')
    found = read_text(path, new_message("MonitoringConfig"), "monitoring_config_file")
    assert (found.prometheus_config.enable, found.prometheus_config.path) == (True, "/metrics")
    path.write_text('server_key: "k\\nl" client_verify: true')
    found = read_text(path, new_message("SSLConfig"), "ssl_config_file")
    assert (found.server_key, found.client_verify) == ("k\nl", True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prometheus { }", 'no field named "prometheus"'),
        ("prometheus_config {", "Its fields are prometheus_config"),
        (None, "No such file or directory. Check --monitoring_config_file"),
    ],
)
def test_errors_say_what_was_wanted(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "config.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_text(path, new_message("MonitoringConfig"), "monitoring_config_file")

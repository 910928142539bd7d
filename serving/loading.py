"""The models that a server's flags ask for: loaded, followed and dropped."""

import contextlib
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from privet.serving.batching import BatchingEngine
from privet.serving.batching_config import ServerBatching
from privet.serving.config import ServerConfig
from privet.serving.config_file import ConfigFile
from privet.serving.engine import Engine, load_engine
from privet.serving.installed import has_tensorflow
from privet.serving.metrics import Metrics
from privet.serving.model_config import TFLITE, ModelConfig
from privet.serving.models import Models
from privet.serving.retries import RetryPolicy
from privet.serving.versions import ModelVersions
from privet.serving.warmup import warm_up

# How many versions load at once, over all models: a slow one should not hold up another.
LOAD_THREADS = max(2, os.cpu_count() or 1)

_QUIETING = threading.Lock()


@contextlib.contextmanager
def serve_models(
    config: ServerConfig, metrics: Metrics, announce: Callable[[str], None]
) -> Iterator[Models]:
    """The models of a server, all of them loaded; they are dropped at the end.

    Args:
      config: which models, and how to follow them.
      metrics: where loading, and later every run, is counted.
      announce: told, in a line each, what changes after the start.

    Raises:
      ConfigError: the model configuration file cannot be read, or says something that cannot be.
      ServingError: a model has no version that can be loaded.
    """
    load = make_load(config, metrics)
    retry = RetryPolicy(config.max_num_load_retries, config.load_retry_interval_micros / 1e6)

    def make_versions(model: ModelConfig) -> ModelVersions:
        return ModelVersions(
            model.name,
            model.base_path,
            partial(load, model),
            policy=model.policy,
            poll_seconds=config.file_system_poll_wait_seconds,
            retry=retry,
            announce=announce,
        )

    models = Models(
        make_versions,
        allow_labels_for_unavailable=config.allow_version_labels_for_unavailable_models,
        announce=announce,
    )
    with contextlib.ExitStack() as stack:
        stack.callback(models.stop)
        if config.model_config_file is not None:
            file = ConfigFile(
                config.model_config_file,
                models.apply,
                poll_seconds=config.model_config_file_poll_wait_seconds,
                retry=retry,
                announce=announce,
            )
            stack.callback(file.stop)
        else:
            assert config.model_base_path is not None  # ServerConfig checks it
            models.apply([ModelConfig(config.model_name, config.model_base_path)])
        yield models


def make_load(config: ServerConfig, metrics: Metrics) -> Callable[[ModelConfig, Path, int], Engine]:
    """The function that loads a version of a model from its directory and warms it up.

    Any number of threads may call it; it works for some of them at a time. A ServingError says
    that the version cannot be loaded, or refuses its own warm-up requests.

    Raises:
      ConfigError: the batching parameters cannot be read, or cannot be.
    """
    slots = threading.BoundedSemaphore(LOAD_THREADS)
    batching = ServerBatching.from_flags(config)

    def load(model: ModelConfig, path: Path, version: int) -> Engine:
        with slots:
            quiet_tensorflow()
            batches = batching.config_of(path)
            with metrics.loading(path):
                engine = load_engine(
                    path,
                    config.prefer_tflite_model or model.platform == TFLITE,
                    config.num_tflite_pools,
                )
            if batches is not None:
                engine = BatchingEngine(engine, batches)
            if config.enable_model_warmup:
                sizes = batches.warm_up_sizes if batches else (1,)
                try:
                    metrics.warmed_up(path, warm_up(engine, path, version, sizes))
                except BaseException:
                    engine.close()
                    raise
            return metrics.observe(engine, model.name, version)

    return load


def quiet_tensorflow() -> None:
    """Keeps TensorFlow from filling the log with its start-up notes.

    Only what is about to import TensorFlow calls this; a level that the user set stays. Without
    TensorFlow there is nothing to do.
    """
    if not has_tensorflow():
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _QUIETING, warnings.catch_warnings():  # which is not for threads at the same time
        warnings.simplefilter("ignore", FutureWarning)  # google.api_core, about Python's age
        import tensorflow as tf
    tf.get_logger().setLevel("ERROR")

"""What a run will spend, before it runs: privacy, noise and traffic."""

import contextlib
from typing import Any

import msgspec

from privet.components.ingest import rows, sources, transforms
from privet.components.ingest.config import IngestConfig
from privet.components.shared.errors import ConfigError
from privet.components.shared.user_code import load_function
from privet.components.train import accounting
from privet.components.train.config import PrivacyConfig
from privet.components.train.sampling import build_sampler
from privet.pipeline.config import PipelineConfig


def make_plan(config: PipelineConfig, target_epsilon: float | None = None) -> dict[str, Any]:
    """Computes what `privet run` would spend. Reads the rows to count clients; runs nothing.

    Args:
      config: the checked configuration.
      target_epsilon: plan for this epsilon instead of the configured one.

    Raises:
      ConfigError: the target cannot be reached, or the run has no privacy to plan.
    """
    train = config.train
    privacy = _with_target(train.privacy, target_epsilon)
    clients = count_train_clients(config.data)
    private = privacy.mechanism != "none"
    sampler = build_sampler(train.sampling, clients, private=private, seed=config.seed)
    noise, epsilon = None, None
    if private:
        assert privacy.delta is not None  # PrivacyConfig checks it
        accounting.check_delta(privacy.delta, clients)
        noise = privacy.noise_multiplier
        if noise is None:
            assert privacy.epsilon is not None
            noise = accounting.calibrate_noise(
                sampler, train.rounds, privacy.epsilon, privacy.delta
            )
        event = accounting.rounds_event(sampler, noise, train.rounds)
        epsilon = accounting.epsilon_of(event, privacy.delta)
    update_bytes = 4 * _count_parameters(config)
    total = round(update_bytes * sampler.expected_cohort * train.rounds)
    return {
        "schema": 1,
        "epsilon": epsilon,
        "delta": privacy.delta,
        "noise_multiplier": noise,
        "clip_norm": privacy.clip_norm,
        "sampling": sampler.describe(),
        "train_clients": clients,
        "expected_cohort": sampler.expected_cohort,
        "rounds": train.rounds,
        "local_epochs": train.local_epochs,
        "bytes_per_client_round": update_bytes,
        "bytes_down_total": total,
        "bytes_up_total": total,
    }


def count_train_clients(data: IngestConfig) -> int:
    """The clients that ingestion would put into the train split."""
    ids: set[str] = set()
    for path in sources.find_files(data):
        sources.check_columns(path, data)
        for _, row in sources.read_rows(path, data):
            with contextlib.suppress(rows.RowRejectedError):  # as ingestion refuses it
                client = rows.client_of(row, data.schema)
                column = data.split.column
                split = rows.split_of(row, column) if column else None
                rows.parse_example(row, data.schema)
                if (split or transforms.assign_split(client, data)) == "train":
                    ids.add(client)
    if not ids:
        raise ConfigError("no client falls into the train split; see data.split")
    return len(ids)


def _with_target(privacy: PrivacyConfig, target: float | None) -> PrivacyConfig:
    if target is None:
        return privacy
    if privacy.mechanism == "none":
        raise ConfigError("--target-epsilon needs train.privacy.mechanism: gaussian")
    if target <= 0:
        raise ConfigError(f"--target-epsilon={target} must be > 0 (typical: 1 to 8)")
    return msgspec.structs.replace(privacy, epsilon=target, noise_multiplier=None)


def _count_parameters(config: PipelineConfig) -> int:
    build_model = load_function(config.model.module_file, config.model.function)
    from privet.components.train.model import build_keras_model  # imports TensorFlow

    model = build_keras_model(build_model, config.data.schema, config.seed)
    return sum(int(variable.shape.num_elements()) for variable in model.trainable_variables)

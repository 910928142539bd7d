"""What a run will spend, before it runs: privacy, noise and traffic."""

from typing import Any

import dp_accounting
import msgspec

from privet.components.ingest import dp_statistics
from privet.components.ingest.config import IngestConfig
from privet.components.shared.errors import ConfigError
from privet.components.shared.privacy_loss import NOTHING, epsilon_of
from privet.components.shared.schema import Schema
from privet.components.shared.user_code import load_function
from privet.components.train import accounting
from privet.components.train.communication import traffic_of
from privet.components.train.participation import build_participation
from privet.components.train.privacy_config import PrivacyConfig
from privet.components.train.sampling import build_sampler
from privet.pipeline.beam import beam_arguments
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
    schema, clients = survey_data(config.data, beam_arguments(config.beam))
    train = msgspec.structs.replace(train, privacy=privacy)
    private = privacy.is_private
    sampler = build_sampler(train.sampling, clients, private=private, seed=config.seed)
    participation = build_participation(train, sampler, config.seed)
    before = _statistics_event(config.data, schema)
    noise, epsilon = None, None
    if private:
        account = accounting.open_account(
            train, sampler.draws, before, expected_reports=participation.expected_reports
        )
        noise = account.mechanism.noise_multiplier
        epsilon = account.including(train.rounds).epsilon()
    traffic = traffic_of(train, _weight_shapes(config, schema))
    return {
        "schema": 1,
        "epsilon": epsilon,
        "delta": privacy.delta,
        "statistics": _statistics_plan(config.data, before),
        "noise_multiplier": noise,
        "clip_norm": privacy.clip_norm,
        "sampling": participation.describe(),
        "train_clients": clients,
        "expected_cohort": participation.expected_starts,
        "rounds": train.rounds,
        "local_epochs": train.local_epochs,
        "bytes_down_per_client_round": traffic.down,
        "bytes_up_per_client_round": traffic.up,
        "bytes_down_total": round(traffic.down * participation.expected_starts * train.rounds),
        "bytes_up_total": round(traffic.up * participation.expected_reports * train.rounds),
    }


def survey_data(data: IngestConfig, beam_options: list[str]) -> tuple[Schema, int]:
    """The schema, and the number of clients that ingestion would put into the train split."""
    from privet.components.ingest import run, transforms  # imports Beam

    schema, clients = run.survey(data, lambda: transforms.pipeline_of(beam_options))
    if not clients:
        raise ConfigError("no client falls into the train split; see data.split")
    return schema, clients


def _statistics_event(data: IngestConfig, schema: Schema) -> dp_accounting.DpEvent:
    """What ingestion will release about the clients beside the model."""
    if data.dp_statistics is None:
        return NOTHING
    return dp_statistics.event(data.dp_statistics, schema)


def _statistics_plan(data: IngestConfig, released: dp_accounting.DpEvent) -> dict[str, Any] | None:
    """What the noised statistics spend of the whole; None where they are exact."""
    if data.dp_statistics is None:
        return None
    delta = data.dp_statistics.delta
    return {"epsilon": epsilon_of(released, delta), "delta": delta}


def _with_target(privacy: PrivacyConfig, target: float | None) -> PrivacyConfig:
    if target is None:
        return privacy
    if not privacy.is_private:
        raise ConfigError("--target-epsilon needs train.privacy.mechanism: gaussian")
    if target <= 0:
        raise ConfigError(f"--target-epsilon={target} must be > 0 (typical: 1 to 8)")
    return msgspec.structs.replace(privacy, epsilon=target, noise_multiplier=None)


def _weight_shapes(config: PipelineConfig, schema: Schema) -> list[tuple[int, ...]]:
    build_model = load_function(config.model.module_file, config.model.function)
    from privet.components.train.model import build_keras_model  # imports TensorFlow

    model = build_keras_model(build_model, schema, config.seed)
    return [tuple(variable.shape) for variable in model.trainable_variables]

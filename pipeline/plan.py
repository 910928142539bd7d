"""What a run will spend, before it runs: privacy, noise and traffic.

Without traffic nothing here needs TensorFlow, and with a stated population no data either.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import dp_accounting
import msgspec

from privet.components.ingest import dp_statistics
from privet.components.ingest.config import IngestConfig
from privet.components.shared.errors import ConfigError
from privet.components.shared.privacy_loss import NOTHING, epsilon_of
from privet.components.shared.schema import Schema
from privet.components.shared.user_code import load_function
from privet.components.train import accounting, population_budget
from privet.components.train.communication import mean_traffic
from privet.components.train.config import TrainConfig
from privet.components.train.participation import Participation, build_participation
from privet.components.train.privacy_config import PrivacyConfig
from privet.components.train.sampling import build_sampler
from privet.pipeline import ledgers
from privet.pipeline.assumptions import side_by_side
from privet.pipeline.beam import beam_arguments
from privet.pipeline.config import PipelineConfig
from privet.pipeline.suggestions import suggest

Shapes = list[tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Questions:
    """What a plan is to tell beside what the run spends.

    Attributes:
      target_epsilon: plan for this epsilon instead of the configured one.
      traffic: bytes too, for which the model is built.
      suggest: other cohorts and numbers of rounds within the same budget.
      client_rounds: that budget; by default what the run takes.
      other_runs: on the same clients, to add this one to.
      delta: to state all of them together at; by default the largest of theirs.
    """

    target_epsilon: float | None = None
    traffic: bool = False
    suggest: bool = False
    client_rounds: float | None = None
    other_runs: Sequence[ledgers.Spent] = ()
    delta: float | None = None

    def __post_init__(self) -> None:
        target, budget = self.target_epsilon, self.client_rounds
        if target is not None and not 0 < target < math.inf:
            raise ConfigError(f"--target-epsilon={target} must be > 0 and finite (typical: 1 to 8)")
        if budget is not None and not 0 < budget < math.inf:
            raise ConfigError(f"--client-rounds={budget} must be > 0 and finite")
        if budget is not None and not self.suggest:
            raise ConfigError(f"--client-rounds={budget:g} is the budget of --suggest: give both")
        if self.delta is not None and not self.other_runs:
            raise ConfigError(
                f"--delta={self.delta} is for several runs together (--ledger); that of one run is "
                "train.privacy.delta"
            )


def make_plan(config: PipelineConfig, questions: Questions | None = None) -> dict[str, Any]:
    """Computes what `privet run` would spend; runs nothing.

    Reads the rows to count clients, unless train.sampling.population states their number.

    Args:
      config: the checked configuration.
      questions: what else to tell.

    Raises:
      ConfigError: a target cannot be reached, or the run has no privacy to plan.
    """
    questions = questions or Questions()
    privacy = _with_target(config.train.privacy, questions)
    train = msgspec.structs.replace(config.train, privacy=privacy)
    needs_schema = questions.traffic or config.data.dp_statistics is not None
    schema, clients = _schema_and_clients(config, needs_schema)
    sampler = build_sampler(train.sampling, clients, private=privacy.is_private, seed=config.seed)
    participation = build_participation(train, sampler, config.seed)
    before = _statistics_event(config.data, schema)
    shapes = _weight_shapes(config, schema) if questions.traffic else None
    client_rounds = participation.expected_starts * train.rounds
    plan: dict[str, Any] = {
        "schema": 1,
        "unit": None,
        "neighbouring_relation": None,
        "epsilon": None,
        "delta": privacy.delta,
        "statistics": _statistics_plan(config.data, before),
        "noise_multiplier": None,
        "clip_norm": privacy.clip_norm,
        "sampling": participation.describe(),
        "train_clients": clients,
        "expected_cohort": participation.expected_starts,
        "rounds": train.rounds,
        "local_epochs": train.local_epochs,
        "client_rounds": client_rounds,
        **_traffic_plan(train, participation, shapes),
        "assumptions": [],
        "population_budget": None,
    }
    if privacy.is_private:
        account = accounting.open_account(
            train, sampler.draws, before, expected_reports=participation.expected_reports
        ).including(train.rounds)
        plan |= _privacy_plan(account, privacy, config.name, questions)
    elif questions.other_runs:
        raise ConfigError(
            f"--ledger adds {config.name} to other runs, but its train.privacy.mechanism is none: "
            "all of them together would have no guarantee."
        )
    if questions.suggest:
        budget = questions.client_rounds
        found = suggest(
            train,
            clients,
            client_rounds=client_rounds if budget is None else budget,
            seed=config.seed,
            before=before,
            weights=None if shapes is None else sum(math.prod(shape) for shape in shapes),
        )
        plan["suggestions"] = [dataclasses.asdict(row) for row in found]
    return plan


def _privacy_plan(
    account: accounting.Accountant, privacy: PrivacyConfig, name: str, questions: Questions
) -> dict[str, Any]:
    """What the rounds on an account spend, also together with other runs."""
    mechanism, epsilon = account.mechanism, account.epsilon()
    plan: dict[str, Any] = {
        "unit": mechanism.unit,
        "neighbouring_relation": mechanism.relation,
        "epsilon": epsilon,
        "noise_multiplier": mechanism.noise_multiplier,
        "assumptions": [dataclasses.asdict(row) for row in side_by_side(account, epsilon)],
    }
    if privacy.population_budget is not None:
        plan["population_budget"] = population_budget.summary_of(privacy.population_budget, account)
    if questions.other_runs:
        this = ledgers.spent_by(account, epsilon, f"{name} (planned)")
        plan["together"] = ledgers.compose([*questions.other_runs, this], questions.delta)
    return plan


def _traffic_plan(
    train: TrainConfig, participation: Participation, shapes: Shapes | None
) -> dict[str, int | None]:
    """Bytes over the network; None where the model was not built."""
    down = up = down_total = up_total = None
    if shapes is not None:
        traffic = mean_traffic(train, shapes, train.rounds)
        down, up = (round(mean) for mean in traffic)
        down_total = round(traffic.down * participation.expected_starts * train.rounds)
        up_total = round(traffic.up * participation.expected_reports * train.rounds)
    return {
        "bytes_down_per_client_round": down,
        "bytes_up_per_client_round": up,
        "bytes_down_total": down_total,
        "bytes_up_total": up_total,
    }


def survey_data(data: IngestConfig, beam_options: list[str]) -> tuple[Schema, int]:
    """The schema, and the number of clients that ingestion would put into the train split."""
    from privet.components.ingest import run

    def make_pipeline() -> Any:
        from privet.components.ingest import transforms  # imports Beam, which most data need not

        return transforms.pipeline_of(beam_options)

    schema, clients = run.survey(data, make_pipeline)
    if not clients:
        raise ConfigError("no client falls into the train split; see data.split")
    return schema, clients


def _statistics_event(data: IngestConfig, schema: Schema | None) -> dp_accounting.DpEvent:
    """What ingestion will release about the clients beside the model."""
    if data.dp_statistics is None:
        return NOTHING
    assert schema is not None  # _schema_and_clients was asked for it
    return dp_statistics.event(data.dp_statistics, schema)


def _statistics_plan(data: IngestConfig, released: dp_accounting.DpEvent) -> dict[str, Any] | None:
    """What the noised statistics spend of the whole; None where they are exact."""
    if data.dp_statistics is None:
        return None
    delta = data.dp_statistics.delta
    return {"epsilon": epsilon_of(released, delta), "delta": delta}


def _with_target(privacy: PrivacyConfig, questions: Questions) -> PrivacyConfig:
    target = questions.target_epsilon
    if not privacy.is_private and (target is not None or questions.suggest):
        name = "--suggest" if target is None else "--target-epsilon"
        raise ConfigError(f"{name} needs train.privacy.mechanism: gaussian")
    if target is None:
        return privacy
    return msgspec.structs.replace(privacy, epsilon=target, noise_multiplier=None)


def _schema_and_clients(config: PipelineConfig, needs_schema: bool) -> tuple[Schema | None, int]:
    """The number of clients to train on, and the schema if it is needed or comes with it."""
    data, stated = config.data, config.train.sampling.population
    if stated is not None and not needs_schema:
        return None, stated
    if stated is not None and (schema := stated_schema(data)) is not None:
        return schema, stated
    return survey_data(data, beam_arguments(config.beam))


def stated_schema(data: IngestConfig) -> Schema | None:
    """The schema, if the configuration leaves nothing of it to the data."""
    learns = any(feature.learn_vocabulary for feature in data.features.values())
    return data.schema_of(data.features) if data.features and not learns else None


def _weight_shapes(config: PipelineConfig, schema: Schema | None) -> Shapes:
    assert schema is not None  # _schema_and_clients was asked for it
    return weight_shapes(config, schema)


def weight_shapes(config: PipelineConfig, schema: Schema) -> Shapes:
    """The shapes of the weights that training moves, for which the model is built."""
    model = config.model
    build_model = load_function(model.module_file, model.function, model.arguments)
    from privet.components.train.model import build_keras_model, build_trainee  # TensorFlow

    built = build_keras_model(build_model, schema, config.seed)
    trainee = build_trainee(built, config.train, schema, config.seed)
    return [tuple(variable.shape) for variable in trainee.trainable_variables]

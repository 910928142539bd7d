"""One training run from the client store to the trained model: the parts put together."""

import contextlib
import dataclasses
import datetime
import json
import tempfile
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import tensorflow as tf

from privet.components.shared import files, layout, noised_statistics, tasks
from privet.components.shared.errors import ConfigError, PrivacyError
from privet.components.shared.fake_quant import ranges_of, take_weights
from privet.components.shared.schema import Schema
from privet.components.shared.storage import ClientStore
from privet.components.shared.user_code import Argument, load_function
from privet.components.train import accounting, loop
from privet.components.train.aggregation import build_query
from privet.components.train.canaries import canary_report
from privet.components.train.checkpoint import Checkpoints, fingerprint_of
from privet.components.train.client_noise import build_client_noise
from privet.components.train.client_order import examples_taken
from privet.components.train.client_states import states_folder
from privet.components.train.config import TrainConfig
from privet.components.train.engines import build_engine
from privet.components.train.held_out import build_evaluation
from privet.components.train.history import Round, training_history
from privet.components.train.ledger import write_ledger
from privet.components.train.model import (
    assign_weights,
    build_keras_model,
    build_trainee,
    check_exportable,
    load_initial_weights,
)
from privet.components.train.participation import Participation, build_participation
from privet.components.train.population_budget import PopulationBudget
from privet.components.train.privacy_config import PrivacyConfig
from privet.components.train.sampling import build_sampler


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """What a run leaves.

    Attributes:
      model: the user's Keras model with its final weights.
      ledger, history: as the artifacts hold them.
      ranges: of activations, by name, if they were trained; see fake_quant.ranges_of.
      canaries: what the rounds tell of them, as the artifact holds it; None where there are none.
    """

    model: tf.keras.Model
    ledger: dict[str, Any]
    history: dict[str, Any]
    ranges: dict[str, list[float]] | None = None
    canaries: dict[str, Any] | None = None


def run_training(
    examples: str,
    module_file: str,
    model_function: str,
    config: TrainConfig,
    seed: int,
    progress: Callable[[Round], None],
    *,
    model_arguments: Mapping[str, Argument] | None = None,
    make_pipeline: Callable[[], Any] | None = None,
    folder: str = "",
    state: str | None = None,
    version: str = "",
) -> TrainingResult:
    """Trains on the train split of a client store.

    Args:
      examples: folder of the ClientExamples artifact.
      module_file, model_function: the user's model.
      config: settings.
      seed: of initial weights and the order of examples; never of privacy noise.
      progress: is told of every finished round.
      model_arguments: that the user's function is called with, by name.
      make_pipeline, folder: what the `beam` engine needs; see engines.build_engine. By default
        a temporary folder of this machine.
      state: folder for checkpoints and the journal of noised rounds; a run that finds its own goes
        on. What runs without privacy have left there is removed at the end. None to keep nothing.
      version: of what decides the result beside the other arguments: source code, initial weights.

    Raises:
      ConfigError, ModelError, PrivacyError, StoreError: see the parts.
    """
    arguments = dict(model_arguments or {})
    store = ClientStore(examples, "train")
    _check_metrics(config, store.schema)
    private = config.privacy.is_private
    if private:
        _check_learned(store.schema)
    sampler = build_sampler(config.sampling, len(store), private=private, seed=seed)
    participation = build_participation(config, sampler, seed)
    statistics = _read_statistics(examples)
    before = noised_statistics.event_of(statistics)
    accountant = None
    if private:
        accountant = accounting.open_account(
            config,
            sampler.draws,
            before,
            examples=int(store.example_counts().sum()),
            expected_reports=participation.expected_reports,
        )
    checkpoints = None
    if state is not None:
        fingerprint = fingerprint_of(
            examples,
            files.read_bytes(module_file).decode(),
            model_function,
            json.dumps(arguments, sort_keys=True),
            _deciding(config).to_json(),
            str(seed),
            version,
            repr(accountant.mechanism) if accountant else "",
        )
        checkpoints = Checkpoints(state, fingerprint, private=private)
    budget = None
    if config.privacy.population_budget is not None:
        budget = PopulationBudget(
            config.privacy.population_budget,
            checkpoints.lasting_name() if checkpoints else uuid.uuid4().hex,
            datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
    build_model = load_function(module_file, model_function, arguments)
    model = build_keras_model(build_model, store.schema, seed)
    if config.initial_weights is not None:
        load_initial_weights(model, config.initial_weights)
    check_exportable(model)
    trainee = build_trainee(model, config, store.schema, seed)
    with contextlib.ExitStack() as resources:
        folder = folder or resources.enter_context(tempfile.TemporaryDirectory())
        states = checkpoints.folder if checkpoints else folder
        engine = build_engine(
            config,
            model=trainee,
            store=store,
            query=_query(config.privacy, accountant, participation),
            seed=seed,
            make_pipeline=make_pipeline,
            folder=folder,
            states=states,
            expected_cohort=participation.expected_starts,
            draws=sampler.draws,
        )
        resources.callback(engine.close)
        trained = loop.train(
            engine,
            sampler,
            participation,
            config,
            accountant=accountant,
            evaluate=build_evaluation(trainee, ClientStore(examples, "eval")),
            progress=progress,
            example_counts=examples_taken(store.example_counts(), config),
            checkpoints=checkpoints,
            reserve=budget.reserve if budget else None,
        )
    assign_weights(trainee, trained.weights)
    ranges = None
    if trainee is not model:
        take_weights(model, trainee)
        ranges = ranges_of(trainee)
    charged = None
    if budget and accountant:
        charged = budget.settle(accountant, trained.rounds_allowed - accountant.rounds)
    ledger = write_ledger(
        config.privacy,
        participation,
        accountant,
        rounds=len(trained.rounds),
        rounds_allowed=trained.rounds_allowed,
        rounds_planned=config.rounds,
        ended_by=trained.ended_by,
        public_eval=config.public_eval,
        epsilon_by_round=[r.epsilon for r in trained.rounds] if accountant else [],
        statistics=statistics,
        rounds_of_others=checkpoints.rounds_of_others() if checkpoints else 0,
        population_budget=charged,
        canaries=config.canaries.count if config.canaries else 0,
    )
    history = training_history(
        trained.rounds,
        config,
        sampler,
        participation,
        metric=tasks.primary_metric(store.schema.task),
        shapes=[tuple(variable.shape) for variable in trainee.trainable_variables],
        sent=trained.sent,
    )
    files.remove_folder(states_folder(states))
    if checkpoints:
        checkpoints.clear_others()
    canaries = None
    if config.canaries is not None and trained.canaries is not None:
        canaries = canary_report(
            trained.canaries,
            private=private,
            norm=config.privacy.clip_norm or config.canaries.norm_in_use,
            dimension=history["parameters"],
            draws=sampler.draws,
            round_seconds=[round_.seconds for round_ in trained.rounds],
        )
    return TrainingResult(model, ledger, history, ranges, canaries)


def _check_metrics(config: TrainConfig, schema: Schema) -> None:
    try:
        config.check_metrics(schema.task)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _check_learned(schema: Schema) -> None:
    """Refuses features whose vocabulary or type tells of clients beside the noised updates."""
    learned = [
        name
        for name, feature in schema.features.items()
        if feature.learn_vocabulary is not None or name in schema.learned_features
    ]
    if learned:
        raise PrivacyError(
            f"data.features {', '.join(learned)}: a vocabulary or type that was learned from the "
            "values of clients is covered by no epsilon (nothing has been trained). Give data."
            "features with public vocabularies in the configuration, or set "
            "train.privacy.mechanism: none."
        )


def _read_statistics(examples: str) -> dict[str, Any]:
    """statistics.json of the examples; empty if they came from elsewhere than ingestion."""
    path = files.join(examples, layout.STATISTICS)
    return files.read_json(path) if files.exists(path) else {}


def _deciding(config: TrainConfig) -> TrainConfig:
    """The settings without those that change no weight: a run that differs in them is the same."""
    config = msgspec.structs.replace(config, checkpoint_every=1)
    if config.early_stop is None:
        config = msgspec.structs.replace(config, evaluate_every=1)
    return config


def _query(
    privacy: PrivacyConfig, accountant: accounting.Accountant | None, participation: Participation
) -> Any:
    if accountant is None:
        return None
    assert privacy.clip_norm is not None
    if privacy.mechanism in ("local", "example"):
        return build_client_noise(
            privacy.mechanism,
            privacy.clip_norm,
            accountant.mechanism.noise_multiplier,
            participation.expected_reports,
        )
    return build_query(
        privacy.clip_norm,
        accountant.mechanism.noise_multiplier,
        participation.expected_reports,
        privacy.adaptive_clip,
        rounded=privacy.rounded_noise,
        correlation=accountant.mechanism.correlation,
    )

"""Configuration: what a wrong key or value makes the reader say."""

from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privet.components.compress.config import CompressConfig
from privet.components.ingest.config import IngestConfig
from privet.components.push.config import PushConfig
from privet.components.shared.configuration import Config, check
from privet.components.shared.errors import ConfigError
from privet.components.train.config import TrainConfig
from privet.components.validate.config import GateConfig, InfraConfig


class Optimizer(Config, frozen=True):
    learning_rate: float = 0.1
    momentum: float = 0.0

    def __post_init__(self) -> None:
        check(self.learning_rate > 0, f"learning_rate={self.learning_rate} must be > 0")


class Training(Config, frozen=True):
    rounds: int
    kind: Literal["all", "poisson"] = "all"
    optimizer: Optimizer = Optimizer()
    by_name: dict[str, Optimizer] = {}  # noqa: RUF012 (msgspec copies it)
    several: tuple[Optimizer, ...] = ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"rounds": 1, "roundz": 2},
            "unknown configuration key `train.roundz`. Did you mean `rounds`?",
        ),
        (
            {"rounds": 1, "optimizer": {"lerning_rate": 1.0}},
            "unknown configuration key `train.optimizer.lerning_rate`. "
            "Did you mean `learning_rate`?",
        ),
        (
            {"rounds": 1, "zzz": 2},
            "unknown configuration key `train.zzz`. "
            "Valid keys: by_name, kind, optimizer, rounds, several.",
        ),
        (
            {"rounds": 1, "by_name": {"a": {"momentun": 0.5}}},
            "unknown configuration key `train.by_name[...].momentun`. Did you mean `momentum`?",
        ),
        ({"rounds": "many"}, "`train.rounds`: Expected `int`, got `str` (got 'many')"),
        ({"rounds": 1, "kind": "some"}, "`train.kind`: 'some' is none of all, poisson."),
        ({}, "`train`: Object missing required field `rounds`"),
        (
            {"rounds": 1, "optimizer": {"learning_rate": -1.0}},
            "`train.optimizer`: learning_rate=-1.0 must be > 0",
        ),
    ],
)
def test_message_names_the_key_and_what_to_try(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Training.from_mapping(values, where="train")

    assert str(error.value) == message


def test_wrong_value_in_a_sequence_is_found() -> None:
    with pytest.raises(ConfigError) as error:
        Training.from_mapping({"rounds": 1, "several": [{}, {"momentum": "x"}]})

    assert "`several[1].momentum`" in str(error.value) or "`several[...]" in str(error.value)
    assert "Expected `float`, got `str`" in str(error.value)


def test_configuration_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Training(rounds=1).rounds = 2  # type: ignore[misc]


def test_equal_configurations_give_equal_text() -> None:
    one = Training.from_mapping({"rounds": 1, "by_name": {"a": {}, "b": {"momentum": 0.5}}})
    other = Training.from_mapping({"by_name": {"b": {"momentum": 0.5}, "a": {}}, "rounds": 1})

    assert one == other
    assert one.to_json() == other.to_json()


fractions = st.floats(0.01, 0.49)
names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(lambda name: name != "label")
ingest_configs = st.builds(
    lambda names_, **kwargs: IngestConfig.from_mapping(
        {
            "client_id": "CLIENT",
            "features": {name: {"columns": f"column {name}"} for name in names_},
            "label": {"column": "LABEL", "classes": 3},
            **kwargs,
        }
    ),
    st.sets(names, min_size=1, max_size=4),
    files=st.text(min_size=1) | st.lists(st.text(min_size=1), min_size=1, max_size=3),
    format=st.sampled_from([None, "csv", "parquet"]),
    split=st.fixed_dictionaries({"eval": fractions, "test": fractions, "seed": st.integers(0)}),
    max_examples_per_client=st.none() | st.integers(1, 10**9),
    max_reject_fraction=st.floats(0, 1),
    allow_empty_clients=st.booleans(),
    shards=st.integers(1, 99999),
)
positive = st.floats(1e-9, 1e9)
privacy = st.one_of(
    st.just({"mechanism": "none"}),
    st.fixed_dictionaries(
        {
            "mechanism": st.just("gaussian"),
            "epsilon": positive,
            "delta": st.floats(1e-12, 0.5),
            "clip_norm": positive,
            "noise_multiplier": st.none() | st.floats(0.01, 1e6),
        }
    ),
)
train_configs = st.builds(
    lambda **kwargs: TrainConfig.from_mapping(kwargs),
    privacy=privacy,
    sampling=st.one_of(
        st.just({"kind": "all"}),
        st.fixed_dictionaries({"kind": st.just("poisson"), "cohort_size": st.integers(1)}),
    ),
    rounds=st.integers(1, 10**6),
    client_optimizer=st.fixed_dictionaries({"name": st.just("adam"), "learning_rate": positive}),
)
other_configs = st.sampled_from(
    [
        CompressConfig.from_mapping({"variants": [{"quantization": "float16"}, {"clusters": 16}]}),
        PushConfig(directory="a b/ü"),
        InfraConfig(requests=3),
        GateConfig.from_mapping({"rules": [{"metric": "ledger.epsilon", "upper_bound": 4.0}]}),
    ]
)


@given(st.one_of(ingest_configs, train_configs, other_configs))
def test_configuration_survives_json(config: Config) -> None:
    text = config.to_json()

    assert type(config).from_json(text) == config
    assert type(config).from_json(text).to_json() == text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("function", "values"),
    [(Training.from_mapping, {"rounds": 1, "optimizer": 3}), (Training.from_mapping, [1])],
)
def test_wrong_shape_is_a_config_error(function: Any, values: Any) -> None:
    with pytest.raises(ConfigError, match="Expected `object`"):
        function(values)


def test_check_is_a_value_error_so_that_the_reader_can_add_the_path() -> None:
    check(True, "never seen")
    with pytest.raises(ValueError, match="the rule"):
        check(False, "the rule")
    assert issubclass(msgspec.ValidationError, ValueError)

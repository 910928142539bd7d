"""Settings of variants: names, rules, and what they ask for."""

from typing import Any

import pytest

from privet.components.compress.config import CompressConfig
from privet.components.compress.variant_config import VariantConfig
from privet.components.shared.errors import ConfigError


def variant(**settings: Any) -> VariantConfig:
    return VariantConfig.from_mapping(settings)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "float32"),
        ({"quantization": "int8_weights"}, "int8_weights"),
        ({"sparsity": 0.8}, "sparse80"),
        (
            {"sparsity": 0.8, "clusters": 16, "quantization": "int8_weights"},
            "sparse80_k16_int8_weights",
        ),
        ({"quantization": "int8", "fine_tuning": {}}, "tuned_int8"),
        ({"quantization": "float16", "name": "half"}, "half"),
    ],
)
def test_a_variant_is_named_by_what_it_does(settings: dict[str, Any], name: str) -> None:
    assert variant(**settings).label == name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sparsity": 1.0}, r"sparsity=1\.0 must lie in \[0, 1\)"),
        ({"pattern": "2:4", "sparsity": 0.8}, "pattern=2:4 prunes half of the weights"),
        ({"pattern": "2:4", "sparsity": 0.5, "scope": "global"}, "scope=global does not apply"),
        ({"pattern": "block", "block": [0, 4]}, r"block=\[0, 4\] must be two sizes >= 1"),
        ({"clusters": 1}, "clusters=1 must lie between 2 and 256"),
        ({"quantization": "int8"}, "need ranges of activations"),
        ({"quantization": "float16", "ranges": "public"}, "no other has them"),
        ({"quantization": "int8", "ranges": "public", "fine_tuning": {}}, "without fine_tuning"),
        ({"fine_tuning": {}}, "fine_tuning trains for quantization: int8, not float32"),
        ({"quantization": "int8", "fine_tuning": {"epochs": 0}}, "epochs=0 must be >= 1"),
        ({"name": "../up"}, "name='../up' must be letters, digits"),
    ],
)
def test_a_variant_that_makes_no_sense_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        variant(**settings)


def test_the_trained_weights_are_always_built_and_come_first() -> None:
    given = CompressConfig.from_mapping({"variants": [{"clusters": 4}]})
    assert [one.label for one in given.all] == ["float32", "k4"]
    again = CompressConfig.from_mapping({"variants": [{"clusters": 4}, {}]})
    assert [one.label for one in again.all] == ["float32", "k4"]


def test_no_two_variants_have_one_name() -> None:
    twice = [{"quantization": "int8", "ranges": ranges} for ranges in ("public", "synthetic")]
    with pytest.raises(ConfigError, match="'int8' is the name of 2 of them"):
        CompressConfig.from_mapping({"variants": twice})


@pytest.mark.parametrize("name", ["float", "compressed", "blessed", "ledger", "personalized"])
def test_names_with_another_meaning_are_taken(name: str) -> None:
    with pytest.raises(ConfigError, match=f"name='{name}' is taken"):
        CompressConfig.from_mapping({"variants": [{"name": name, "clusters": 4}]})


def test_what_variants_ask_for() -> None:
    config = CompressConfig.from_mapping(
        {
            "variants": [
                {"name": "a", "quantization": "int8", "ranges": "clients"},
                {"name": "b", "quantization": "int8", "fine_tuning": {"data": "clients"}},
                {"name": "c", "quantization": "int8", "ranges": "public"},
                {"name": "d", "quantization": "int8", "fine_tuning": {}},
                {"name": "e", "quantization": "int16", "ranges": "trained"},
                {"name": "f", "quantization": "dynamic_range"},
            ]
        }
    )
    assert config.asking_for_clients == ["a", "b"]
    assert config.wants_public_data
    assert config.wants_trained_ranges
    assert config.servable == ("float32", "a", "b", "c", "d")
    assert not CompressConfig().wants_public_data
    assert CompressConfig().asking_for_clients == []

"""The small dense model beside a pruned one: as many weights as the pruned one keeps."""

from collections.abc import Callable
from pathlib import Path

import pytest

from privet.components.shared.errors import ConfigError
from privet.components.train.pruning_config import PruningConfig
from privet.pipeline.config import load_config
from privet.pipeline.dense_small import number_of_weights, widest_within
from privet.pipeline.grid import DenseSmallConfig
from privet.pipeline.plan import stated_schema, weight_shapes

HANDWRITING = Path(__file__).parents[2] / "examples" / "handwriting" / "config.yaml"

PRUNING = PruningConfig(sparsity=0.8)


def limits(least: int = 1, most: int = 512) -> DenseSmallConfig:
    return DenseSmallConfig(argument="units", least=least, most=most)


def hidden_layer(units: int) -> int:
    """Weights of 196 inputs, a hidden layer, 62 classes."""
    return number_of_weights([(196, units), (units,), (units, 62), (62,)])


def test_each_kernel_loses_its_share_in_whole_weights_and_biases_none() -> None:
    assert number_of_weights([(196, 64), (64,), (64, 62), (62,)]) == 16638
    kept = (12544 - 10035) + 64 + (3968 - 3174) + 62  # of 10035.2 and 3174.4
    assert number_of_weights([(196, 64), (64,), (64, 62), (62,)], PRUNING) == kept == 3429
    half = PruningConfig(sparsity=0.5)
    assert number_of_weights([(3, 3, 1, 2), (5,), ()], half) == 9 + 5 + 1


@pytest.mark.parametrize("wanted", [3429, 3430, 3429 + 258])
def test_width_is_the_largest_that_fits(wanted: int) -> None:
    assert widest_within(hidden_layer, wanted, limits()) == 13  # 13 x 259 + 62 = 3429


@pytest.mark.parametrize("units", [1, 2, 3, 511, 512])
def test_width_at_the_limits_is_found(units: int) -> None:
    assert widest_within(hidden_layer, hidden_layer(units), limits()) == units


def test_real_model_is_built_few_times() -> None:
    config = load_config(HANDWRITING)
    schema = stated_schema(config.data)
    assert schema is not None
    pruned = number_of_weights(weight_shapes(config, schema), PRUNING)
    built = []

    def weights_at(units: int) -> int:
        built.append(units)
        changed = load_config(HANDWRITING, [f"model.arguments.units={units}"])
        return number_of_weights(weight_shapes(changed, schema))

    assert pruned == 3429
    assert widest_within(weights_at, pruned, limits()) == 13
    assert len(built) <= 11


@pytest.mark.parametrize(
    ("weights_at", "wanted", "message"),
    [
        (hidden_layer, 300, "keeps 300 weights, but the smallest dense one, units=1, has 321"),
        (hidden_layer, 10**6, "but the largest dense one, units=512, has 132,670"),
        (lambda units: 7, 7, "must grow with dense_small.argument=units, but it is 7 at 1 and 7"),
        (lambda units: 500 if units == 256 else units // 2, 60, "500 at 256, 256 at 512"),
    ],
)
def test_width_that_cannot_be_found_is_explained(
    weights_at: Callable[[int], int], wanted: int, message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        widest_within(weights_at, wanted, limits())
    assert message in str(error.value)

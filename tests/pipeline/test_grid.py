"""The grid of a sweep: its points, their names, and how mistakes in the file are explained."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from privet.components.shared.errors import ConfigError
from privet.pipeline import config
from privet.pipeline.grid import GridConfig, Point, dense_small_point, points_of, read_grid


def points(**grid: Any) -> list[Point]:
    return points_of(GridConfig.from_mapping(grid))


def names(**grid: Any) -> list[str]:
    return [point.name for point in points(**grid)]


def test_every_combination_is_a_point_and_the_last_key_varies_fastest() -> None:
    found = points(grid={"train.rounds": [1, 2], "train.algorithm": ["fed_avg", "scaffold"]})
    assert [tuple(point.settings.values()) for point in found] == [
        (1, "fed_avg"),
        (1, "scaffold"),
        (2, "fed_avg"),
        (2, "scaffold"),
    ]
    assert [point.overrides for point in found][1] == (
        "train.rounds=1",
        'train.algorithm="scaffold"',
    )


NAMED = {
    "epsilon": {
        1: {"train.privacy.epsilon": 1},
        "none": {"train.privacy": {"mechanism": "none"}},
    },
    "pruning": {0: {"train.pruning": None}, 0.5: {"train.pruning": {"sparsity": 0.5}}},
}


def test_named_values_set_key_paths_of_their_own() -> None:
    found = points(grid=NAMED, seeds=[3])
    assert [point.name for point in found][1:3] == [
        *("epsilon-1_pruning-0.5_seed-3", "epsilon-none_pruning-0_seed-3")
    ]
    assert found[1].levers == {"epsilon": 1, "pruning": 0.5}
    assert found[1].configuration == "epsilon-1_pruning-0.5"
    assert found[2].settings == {"train.privacy": {"mechanism": "none"}, "train.pruning": None}
    assert names(seeds=[3]) == ["seed-3"]
    assert points(seeds=[3])[0].configuration == "as-configured"


def test_small_dense_model_leaves_out_the_lever_that_prunes() -> None:
    grid = GridConfig.from_mapping({"grid": NAMED, "dense_small": {"argument": "units"}})
    small = dense_small_point(grid, points_of(grid)[1], 9)
    assert small.levers == {"epsilon": 1, "model.arguments.units": 9}
    assert small.name == small.configuration == "dense-small_epsilon-1_units-9"
    assert small.settings["train.pruning"] is None


def test_grid_of_the_digits_is_the_one_that_is_told_of() -> None:
    folder = Path(__file__).resolve().parents[2] / "examples" / "digits"
    found = points_of(read_grid(folder / "grid.yaml"))
    assert len(found) == 5 * 3 * 3 * 3
    assert len({point.configuration for point in found}) == 45
    for point in found:
        config.load_config(folder / "config.yaml", point.overrides)


def test_every_point_runs_with_every_seed() -> None:
    found = points(grid={"train.rounds": [1, 2]}, seeds=[0, 7])
    assert [(point.settings["train.rounds"], point.seed) for point in found] == [
        *((1, 0), (1, 7), (2, 0), (2, 7))
    ]
    assert found[1].name == "rounds-1_seed-7"
    assert found[1].overrides == ("train.rounds=1", "seed=7")
    assert names(seeds=[3]) == ["seed-3"]


@pytest.mark.parametrize(
    "value",
    [1, -1, 1e-5, 0.1, True, None, "a b: {c}", "é'\"", "1", "", [1, {"a": [None]}], {"x": "y"}],
)
def test_override_gives_the_value_back(value: Any) -> None:
    """By the same YAML that reads --set."""
    (point,) = points(grid={"a.b": [value]})
    key, _, text = point.overrides[0].partition("=")
    assert key == "a.b"
    given = yaml.load(text, config._Loader)
    assert given == value
    assert type(given) is type(value)


def test_names_are_those_of_files_and_say_the_values() -> None:
    assert names(grid={"train.privacy.epsilon": [2, 0.5, 1e-5]}) == [
        *("epsilon-2", "epsilon-0.5", "epsilon-1e-05")
    ]
    assert names(grid={"train.pruning": [None]}) == ["pruning-null"]
    found = names(
        grid={"a": ["x/y", "x:y", "../..", "", {"sparsity": 0.8}, "x" * 300, "*", "ä", [1, 2]]}
    )
    assert len(set(found)) == len(found)
    for name in found:
        assert not set(name) & set("/:*{}[]\"' ä"), name
        assert len(name) < 60
    assert found[4].startswith("a-sparsity-0.8-")


def test_name_has_as_much_of_a_key_as_tells_it_apart() -> None:
    assert names(grid={"train.client_optimizer.learning_rate": [1], "train.rounds": [2]}) == [
        "learning_rate-1_rounds-2"
    ]
    assert names(
        grid={
            "train.client_optimizer.learning_rate": [1],
            "train.server_optimizer.learning_rate": [2],
            "data.split.seed": [3],
        },
        seeds=[4],
    ) == ["client_optimizer.learning_rate-1_server_optimizer.learning_rate-2_split.seed-3_seed-4"]


def test_long_name_is_cut_and_stays_its_own() -> None:
    keys = {f"train.{'k' * 20}{number}": ["v" * 20] for number in range(9)}
    (one,) = names(grid=keys)
    (other,) = names(grid=keys | {f"train.{'k' * 20}8": ["w" * 20]})
    assert len(one) == len(other) == 120
    assert one != other


def test_small_dense_model_is_the_point_without_its_pruning() -> None:
    grid = GridConfig.from_mapping(
        {
            "grid": {
                "train.privacy.epsilon": [2],
                "train.pruning.sparsity": [0.8],
                "train.pruning.scope": ["global"],
                "model.arguments.units": [64],
            },
            "seeds": [5],
            "dense_small": {"argument": "units"},
        }
    )
    small = dense_small_point(grid, points_of(grid)[0], 13)
    assert small.name == "dense-small_epsilon-2_units-13_seed-5"
    assert small.seed == 5
    assert list(small.settings.items()) == [
        ("train.privacy.epsilon", 2),
        ("train.pruning", None),
        ("model.arguments.units", 13),
    ]


def test_settings_of_the_small_dense_model_come_after_whole_sections() -> None:
    grid = GridConfig.from_mapping(
        {
            "grid": {"train": [{"pruning": {"sparsity": 0.8}}], "model": [{"module_file": "m.py"}]},
            "dense_small": {"argument": "units"},
        }
    )
    small = dense_small_point(grid, points_of(grid)[0], 13)
    assert list(small.settings)[-2:] == ["train.pruning", "model.arguments.units"]


@pytest.mark.parametrize(
    ("grid", "wanted"),
    [
        ({}, "grid and seeds are empty"),
        ({"grid": {"train.rounds": 3}}, "Expected `object | array`, got `int`"),
        ({"grid": {"train.rounds": []}}, "grid: train.rounds has no values"),
        ({"grid": {"train.rounds=3": [1]}}, "'train.rounds=3' is no key path"),
        ({"gird": {"train.rounds": [3]}}, "unknown configuration key `gird`. Did you mean `grid`?"),
        ({"grid": {"a": [1], "a.b": [2]}}, "grid: a.b is a part of a: vary one"),
        ({"grid": {"seed": [1]}, "seeds": [2]}, "seeds and grid both vary seed"),
        ({"seeds": [1, 1]}, "seeds=[1, 1] has one twice"),
        ({"grid": {"a": [float("nan")]}}, "grid: a: nan is no plain value"),
        ({"grid": {"a": [1]}, "dense_small": {}}, "missing required field `argument`"),
        (
            {"grid": {"a": [1]}, "dense_small": {"argument": "units", "least": 5, "most": 5}},
            "least=5 and most=5 must be 0 <= least < most",
        ),
    ],
)
def test_mistake_in_the_file_is_explained(
    tmp_path: Path, grid: dict[str, Any], wanted: str
) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump(grid))
    with pytest.raises(ConfigError) as error:
        read_grid(file)
    assert wanted in str(error.value)
    assert str(error.value).startswith(f"--grid {file}: ")


def test_date_is_no_plain_value(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text("grid: {a: [2026-01-01]}")
    with pytest.raises(ConfigError, match="is no plain value"):
        read_grid(tmp_path / "grid.yaml")


@pytest.mark.parametrize("values", [[1, 1], [1, "1"]])
def test_value_that_stands_twice_is_refused(values: list[Any]) -> None:
    with pytest.raises(ConfigError, match="stands twice in a list: rounds-1"):
        points(grid={"train.rounds": values})

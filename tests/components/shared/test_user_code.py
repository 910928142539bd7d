"""Loading a function out of the user's file, and what is said when that fails."""

import pickle
import sys
from pathlib import Path

import pytest

from privet.components.shared.errors import ConfigError
from privet.components.shared.user_code import load_function


def test_function_may_use_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_privet_test.py").write_text("VALUE = 7\n")
    module = tmp_path / "model.py"
    module.write_text(
        "from neighbour_of_privet_test import VALUE\n\ndef build(): return VALUE + 1\n"
    )

    assert load_function(str(module), "build")() == 8
    assert str(tmp_path) not in sys.path


def test_two_files_of_one_name_do_not_mix(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.py").write_text(f"def build(): return {folder!r}\n")
    built = [load_function(str(tmp_path / folder / "model.py"), "build") for folder in "ab"]

    assert [function() for function in built] == ["a", "b"]


def test_classes_of_the_file_can_be_pickled(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("class Thing:\n    pass\n")
    thing = load_function(str(tmp_path / "model.py"), "Thing")()

    assert type(pickle.loads(pickle.dumps(thing))) is type(thing)


def test_missing_function_names_those_that_exist(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("def build_model(): pass\nNUMBER = 3\n")

    with pytest.raises(ConfigError, match=r"no function 'build'; it defines build_model$"):
        load_function(str(tmp_path / "model.py"), "build")
    with pytest.raises(ConfigError, match="no function 'NUMBER'"):
        load_function(str(tmp_path / "model.py"), "NUMBER")


def test_arguments_are_bound_by_name(tmp_path: Path) -> None:
    module = str(tmp_path / "model.py")
    Path(module).write_text("def build(units, *, scale=1.0): return units * scale\n")

    assert load_function(module, "build", {"units": 3})() == 3.0
    assert load_function(module, "build", {"scale": 0.5, "units": 3})() == 1.5
    assert load_function(module, "build")(2) == 2.0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "missing a required argument: 'units'"),
        ({"units": 1, "width": 2}, "got an unexpected keyword argument 'width'"),
    ],
)
def test_wrong_arguments_are_answered_with_the_signature(
    tmp_path: Path, arguments: dict[str, int], problem: str
) -> None:
    module = tmp_path / "model.py"
    module.write_text("def build(units: int, scale=1.0): pass\n")

    with pytest.raises(ConfigError, match=r"build\(units: int, scale=1\.0\) cannot") as error:
        load_function(str(module), "build", arguments)
    assert problem in str(error.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"module_file='.*gone.py' does not exist"):
        load_function(str(tmp_path / "gone.py"), "build")


def test_failing_import_says_why_and_leaves_nothing_behind(tmp_path: Path) -> None:
    module = tmp_path / "model.py"
    module.write_text("import no_such_module_xyz\n")
    before = set(sys.modules)

    with pytest.raises(ConfigError, match=r"fails on import: ModuleNotFoundError.*no_such_module"):
        load_function(str(module), "build")
    assert {name for name in sys.modules if name.startswith("privet_user_")} <= before


def test_file_that_is_no_python_source_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text("def build(): pass\n")

    with pytest.raises(ConfigError, match=r"model\.txt.*\.py"):
        load_function(str(tmp_path / "model.txt"), "build")

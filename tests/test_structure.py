"""Rules on the structure that a reviewer would otherwise have to keep an eye on."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("components", "pipeline", "serving")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
STEPS = sorted(
    path.name
    for path in (ROOT / "components").iterdir()
    if path.is_dir() and path.name not in ("shared", "__pycache__")
)

TFX_GLUE = ("components/shared/artifacts.py", "components/shared/fresh_driver.py")


def imports(path: Path, *, top_level: bool = False) -> set[str]:
    """Modules that a file imports, anywhere or only when it is itself imported."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    nodes = tree.body if top_level else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=of)
def test_only_components_and_the_pipeline_import_tfx(path):
    if path.name == "component.py" or of(path) in TFX_GLUE:
        return
    if path.is_relative_to(ROOT / "pipeline"):
        return
    assert not {name for name in imports(path) if name.split(".")[0] == "tfx"}


@pytest.mark.parametrize("path", SOURCES, ids=of)
def test_only_transforms_files_and_workers_import_beam(path):
    if path.name == "transforms.py" or of(path) == "components/shared/files.py":
        return
    if path.is_relative_to(ROOT / "pipeline" / "workers"):
        return
    assert not {name for name in imports(path) if name.split(".")[0] == "apache_beam"}


@pytest.mark.parametrize("step", STEPS)
def test_steps_do_not_import_each_other(step):
    for path in (ROOT / "components" / step).rglob("*.py"):
        other = {
            name
            for name in imports(path)
            for another in STEPS
            if another != step and name.startswith(f"privet.components.{another}")
        }
        assert not other, path


@pytest.mark.parametrize("path", SOURCES, ids=of)
def test_imports_point_one_way(path):
    folder = path.relative_to(ROOT).parts[0]
    forbidden = {"components": ("privet.pipeline",), "serving": ("privet.pipeline",)}
    for name in imports(path):
        assert not name.startswith(forbidden.get(folder, ())), (path, name)
        if folder == "serving" and name.startswith("privet.components"):
            shared = "privet.components.shared"
            allowed = ("signatures", "errors", "tf_example")
            assert name == shared or name.startswith(
                tuple(f"{shared}.{module}" for module in allowed)
            ), (path, name)


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name == "__init__.py"], ids=of)
def test_packages_import_no_tensorflow(path):
    heavy = {name for name in imports(path, top_level=True) if name.startswith("tensorflow")}
    assert not heavy


@pytest.mark.parametrize("path", SOURCES, ids=of)
def test_every_module_says_what_it_is_for(path):
    text = path.read_text()
    assert not text.strip() or ast.get_docstring(ast.parse(text)), path

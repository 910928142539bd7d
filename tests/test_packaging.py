"""What must agree between the files that install and ship Privet."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def pins(name: str) -> dict[str, str]:
    """Package -> version of a requirements file."""
    lines = (ROOT / name).read_text().splitlines()
    found = (re.match(r"^([A-Za-z0-9._-]+)==([^ ;]+)", line) for line in lines)
    return {m[1].lower().replace("_", "-").replace(".", "-"): m[2] for m in found if m}


@pytest.mark.parametrize("name", ["requirements", "requirements-dev", "requirements-tflite"])
def test_lock_is_made_from_its_source(name):
    assert pins(f"{name}.txt") == pins(f"{name}.in")


@pytest.mark.parametrize(
    "name", ["requirements.txt", "requirements-dev.txt", "requirements-tflite.txt"]
)
def test_every_pin_has_a_hash_and_no_address(name):
    text = (ROOT / name).read_text()
    assert text.count("--hash=sha256:") == len(pins(name))
    assert "://" not in text


def test_direct_dependencies_are_in_the_lock():
    setup = (ROOT / "setup.py").read_text()
    declared = re.search(r"install_requires=\[(.*?)\]", setup, re.DOTALL)
    names = {
        requirement.partition("==")[0]: requirement.partition("==")[2]
        for requirement in re.findall(r'"([^"]+)"', declared[1])
    }
    locked = pins("requirements.txt")
    assert names.keys() <= locked.keys()
    for name, version in names.items():
        assert not version or locked[name] == version


def test_the_thin_install_is_a_part_of_the_whole_and_has_what_its_extra_names():
    thin = pins("requirements-tflite.txt")
    whole = pins("requirements.txt") | pins("requirements-dev.txt")
    assert thin.items() <= whole.items()
    extra = re.search(r'"tflite": \[(.*?)\]', (ROOT / "setup.py").read_text(), re.DOTALL)
    for requirement in re.findall(r'"([^"]+)"', extra[1]):
        name, _, version = requirement.partition("==")
        assert thin[name] == (version or thin[name])
    assert not thin.keys() & {"tensorflow", "apache-beam", "grpcio", "msgspec"}


def test_dockerfile_follows_the_lock_and_copies_what_exists():
    text = DOCKERFILE
    locked = pins("requirements.txt")
    assert f"apache/beam_python3.11_sdk:{locked['apache-beam']} AS worker" in text
    assert f"tensorflow/serving:{locked['tensorflow-serving-api']} AS serving" in text
    for sources in re.findall(r"^COPY (?!--from)(?:--chown=\S+ )?(.+) \S+$", text, re.MULTILINE):
        for source in sources.split():
            assert "$" in source or (ROOT / source).exists(), source
    assert set(re.findall(r"--target (\w+)", text)) == {"worker", "server", "serving"}
    assert set(re.findall(r" AS (\w+)$", text, re.MULTILINE)) >= {"worker", "server", "serving"}
    for requirements in re.findall(r"-r (?:/opt/privet/)?(requirements\S*)", text):
        assert (ROOT / requirements).exists()


def test_the_wheels_build_tools_are_the_locks(tmp_path):
    """The command of the image `wheel` that picks them out, without Docker."""
    (command,) = re.findall(r"^RUN (grep .*) > build\.txt", DOCKERFILE, re.MULTILINE)
    picked = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert re.fullmatch(r"setuptools==\S+ \\\n +--hash=\S+\nwheel==\S+ \\\n +--hash=\S+\n", picked)


def test_ci_and_makefile_have_the_promised_commands():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets >= {"help", "setup", "run", "test", "check", "bench", "serve", "clean"}
    script = (ROOT / ".ci" / "run").read_text()
    assert "make check" in script
    assert "make test" in script


def test_help_lists_every_public_target():
    text = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert {line.split()[0] for line in text.splitlines()} >= {"setup", "run", "test", "serve"}


def test_missing_python_is_one_clear_line(tmp_path):
    done = subprocess.run(
        ["make", f"VENV={tmp_path / 'venv'}", "PYTHON=nope", f"{tmp_path / 'venv'}/bin/python"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={"PATH": f"{_only_make(tmp_path)}"},
        check=False,
    )
    assert done.returncode != 0
    assert "Privet needs Python 3.11" in done.stderr


def _only_make(tmp_path: Path) -> Path:
    """A PATH without any Python."""
    import shutil

    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("make", "bash", "find", "grep", "sed", "expand"):
        (folder / tool).symlink_to(shutil.which(tool))
    return folder

"""Writes requirements*.txt out of requirements*.in: the same pins, with the hashes of the files.

    make lock

pip chooses the file of each package for this platform (Linux x86-64, CPython 3.11, the only one
that tensorflow-federated is built for) and reports its hash; nothing is installed. Addresses of
the index are left out, so that the lock works with any mirror.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("requirements", "requirements-dev", "requirements-tflite")


def lock(name: str) -> str:
    """The text of <name>.txt."""
    report = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"),
            *("--no-deps", "--ignore-requires-python", "--report", "-"),
            *("-r", str(ROOT / f"{name}.in")),
        ],
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    pins = sorted(
        (item["metadata"]["name"].lower().replace("_", "-").replace(".", "-"), item)
        for item in json.loads(report)["install"]
    )
    lines = [f"# Made from {name}.in by `make lock`. Install with --no-deps."]
    for package, item in pins:
        version = item["metadata"]["version"]
        sha256 = item["download_info"]["archive_info"]["hashes"]["sha256"]
        lines += [f"{package}=={version} \\", f"    --hash=sha256:{sha256}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for name in NAMES:
        (ROOT / f"{name}.txt").write_text(lock(name), encoding="utf-8")
        print(f"wrote {name}.txt")

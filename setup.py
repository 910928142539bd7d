"""Packaging: the top-level folders become one import name, `privet`.

The console script and the dependencies are declared here and nowhere else. The dependencies
name what Privet imports itself; requirements.txt pins the whole closure and is what to install
from (see its header for why a plain `pip install privet` cannot resolve). The extra `tflite` names
what `privet serve --prefer_tflite_model` imports; requirements-tflite.txt pins that and, installed
with --no-deps in place of the other, makes an install without TensorFlow.
"""

from pathlib import Path

from setuptools import find_packages, setup

FOLDERS = ("components", "pipeline", "serving")

setup(
    name="privet",
    version="0.1.0",
    description="Production TFX components for differentially private federated learning.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.12",
    packages=[
        package
        for folder in FOLDERS
        for package in (
            f"privet.{folder}",
            *(f"privet.{folder}.{sub}" for sub in find_packages(folder)),
        )
    ],
    package_dir={f"privet.{folder}": folder for folder in FOLDERS},
    package_data={
        **{f"privet.{folder}": ["py.typed"] for folder in FOLDERS},
        "privet.components.report": ["*.html.jinja", "*.css", "*.js"],
        "privet.components.select": ["*.md.jinja"],
        "privet.pipeline": ["py.typed", "*.html.jinja"],
        "privet.serving": ["py.typed", "*.html", "*.css", "*.js"],
    },
    entry_points={"console_scripts": ["privet = privet.pipeline.cli:main"]},
    extras_require={
        "tflite": [
            "flatbuffers",
            "httptools",
            "numpy",
            "orjson",
            "protobuf",
            "tensorflow-serving-api==2.14.1",
            "tflite-runtime==2.14.0",
            "uvicorn",
            "uvloop",
        ],
    },
    install_requires=[
        "absl-py",
        "apache-beam==2.77.0",
        "cryptography",
        "dp-accounting==0.4.3",
        "fastavro",
        "fasteners",
        "flatbuffers",
        "google-crc32c",
        "grpcio",
        "grpcio-health-checking",
        "httptools",
        "jinja2",
        "markupsafe",
        "matplotlib",
        "ml-metadata==1.17.1",
        "ml-pipelines-sdk==1.17.3",
        "msgspec",
        "numpy",
        "orjson",
        "pillow",
        "protobuf",
        "psutil",
        "psycopg2-binary",
        "pyarrow",
        "pyyaml",
        "sqlalchemy==1.4.20",
        "tensorflow==2.14.1",
        "tensorflow-federated==0.87.0",
        "tensorflow-privacy==0.9.0",
        "tensorflow-serving-api==2.14.1",
        "tqdm",
        "uvicorn",
        "uvloop",
        "vl-convert-python",
    ],
)

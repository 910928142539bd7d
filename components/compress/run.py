"""Compression from the trained model to all variants and their report: the parts put together."""

import logging
from collections.abc import Callable
from typing import Any

from privet.components.compress import latency, transforms
from privet.components.compress.config import BASELINE, CompressConfig, clients_refused
from privet.components.compress.report import compression_report
from privet.components.compress.sources import Sources
from privet.components.shared import files, layout, signatures, storage
from privet.components.shared.errors import DataError, ModelError, PrivacyError
from privet.components.shared.schema import Schema
from privet.components.shared.synthetic import synthetic_features

_LOG = logging.getLogger(__name__)


def compress(
    config: CompressConfig,
    *,
    model: str,
    ledger: str,
    examples: str,
    public: str | None,
    seed: int,
    directory: str,
    report: str,
    make_pipeline: Callable[[], Any],
) -> None:
    """Builds and measures every variant.

    Args:
      config: settings.
      model: folder of the FederatedModel.
      ledger: folder of its PrivacyLedger.
      examples: folder of the clients' ClientExamples.
      public: folder of the public ClientExamples.
      seed: of synthetic inputs and fine-tuning.
      directory: gets a version directory <name>/ for each variant.
      report: folder that gets compression_report.json, and variants/<name>.json.
      make_pipeline: a new Beam pipeline.

    Raises:
      PrivacyError: a variant asks for the data of clients who were promised privacy, or they are
        given as public.
      DataError: the public data are of another form than the clients'.
      ModelError: not even the trained weights as they are can be exported.
    """
    promised = files.read_json(files.join(ledger, layout.LEDGER))
    clients = _clients(config, examples, promised)
    schema = storage.read_schema(examples)
    if public is not None:
        _check_public(public, examples, schema, promised)
    sources = Sources(model, schema, public, clients, seed)
    with make_pipeline() as pipeline:
        transforms.build_variants(pipeline, config.all, sources, directory, report)
    entries = [
        files.read_json(transforms.measurements_path(report, variant.label))
        for variant in config.all
    ]
    failed = [entry for entry in entries if "failed" in entry]
    built = [entry for entry in entries if "failed" not in entry]
    for entry in failed:
        if entry["name"] == BASELINE.label:
            raise ModelError(entry["failed"])
        _LOG.error("variant %s cannot be built: %s", entry["name"], entry["failed"])
    models = {
        entry["name"]: files.read_bytes(
            files.join(directory, entry["name"], signatures.TFLITE_FILE)
        )
        for entry in built
    }
    timed = latency.measure(models, synthetic_features(schema, max(latency.BATCHES), seed))
    files.write_json(
        files.join(report, layout.COMPRESSION), compression_report(built, timed, failed)
    )


def _check_public(public: str, examples: str, schema: Schema, ledger: dict[str, Any]) -> None:
    if ledger["private"] and public.rstrip("/") == examples.rstrip("/"):
        raise PrivacyError(
            "the public data of the compressor are the clients' own examples, who were promised "
            "privacy: no epsilon covers what is made with them. Connect public data, or none."
        )
    other = storage.read_schema(public)
    given, wanted = _form(other), _form(schema)
    if given != wanted:
        names = sorted(
            name for name in given.keys() | wanted if given.get(name) != wanted.get(name)
        )
        raise DataError(
            f"the public data have other values than the clients' in {', '.join(names)}: another "
            "type, shape, vocabulary or number of classes. State data.features and data.label "
            "instead of leaving them to the data, and leave both out of public_data, or give the "
            "same there."
        )


def _form(schema: Schema) -> dict[str, Any]:
    """What of each feature and of the label the model's computation depends on."""
    label = schema.label
    return {
        **{
            name: (feature.dtype, tuple(feature.example_shape), feature.vocabulary)
            for name, feature in schema.features.items()
        },
        "label": (schema.task, label.classes, label.names),
    }


def _clients(config: CompressConfig, examples: str, ledger: dict[str, Any]) -> str | None:
    """The clients' data if variants may have them; None if no variant asks."""
    asking = config.asking_for_clients
    if asking and ledger["private"]:
        raise PrivacyError(clients_refused(asking))
    return examples if asking else None

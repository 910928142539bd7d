"""Compression from the trained model to all variants and their report: the parts put together."""

from collections.abc import Callable
from typing import Any

from privet.components.compress import latency, transforms
from privet.components.compress.config import CompressConfig, clients_refused
from privet.components.compress.report import compression_report
from privet.components.compress.sources import Sources
from privet.components.shared import files, layout, signatures, storage
from privet.components.shared.errors import PrivacyError
from privet.components.shared.synthetic import synthetic_features


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
      PrivacyError: a variant asks for the data of clients who were promised privacy.
      ModelError: a variant cannot be made of this model.
    """
    clients = _clients(config, examples, files.read_json(files.join(ledger, layout.LEDGER)))
    schema = storage.read_schema(examples)
    sources = Sources(model, schema, public, clients, seed)
    with make_pipeline() as pipeline:
        transforms.build_variants(pipeline, config.all, sources, directory, report)
    names = [variant.label for variant in config.all]
    built = [files.read_json(transforms.measurements_path(report, name)) for name in names]
    models = {
        name: files.read_bytes(files.join(directory, name, signatures.TFLITE_FILE))
        for name in names
    }
    timed = latency.measure(models, synthetic_features(schema, max(latency.BATCHES), seed))
    files.write_json(files.join(report, layout.COMPRESSION), compression_report(built, timed))


def _clients(config: CompressConfig, examples: str, ledger: dict[str, Any]) -> str | None:
    """The clients' data if variants may have them; None if no variant asks."""
    asking = config.asking_for_clients
    if asking and ledger["private"]:
        raise PrivacyError(clients_refused(asking))
    return examples if asking else None

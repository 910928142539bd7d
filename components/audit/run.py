"""One audit: the parts put together."""

from collections.abc import Callable
from typing import Any

from privet.components.audit import transforms
from privet.components.audit.canaries import read_canaries
from privet.components.audit.config import AuditConfig
from privet.components.audit.findings import audit, check_claim
from privet.components.audit.membership import ClientLosses
from privet.components.audit.sample import sample_clients
from privet.components.shared import files, layout
from privet.components.shared.errors import PrivacyError


def run_audit(
    examples: str,
    model: str,
    ledger: str,
    history: str,
    output: str,
    config: AuditConfig,
    seed: int,
    *,
    make_pipeline: Callable[[], Any],
    folder: str,
) -> None:
    """Writes audit.json, then holds the ledger to it.

    Args:
      examples, model, ledger, history: folders of what training read and left.
      output: folder that gets audit.json.
      config: settings.
      seed: of the sample of clients and of the bootstrap.
      make_pipeline: gives a Beam pipeline.
      folder: for what crosses from its workers.

    Raises:
      PrivacyError: the canaries speak against the ledger, now or in an audit before, or are not of
        it.
      DataError: the membership attack has no clients to compare.
      StoreError: a file is damaged.
    """
    claimed = files.read_json(files.join(ledger, layout.LEDGER))
    check_unrefuted(history)
    canaries = read_canaries(history, claimed)
    losses = None
    if config.membership:
        losses = measure_losses(examples, model, config, seed, make_pipeline, folder)
    content = audit(losses, canaries, claimed, config, seed)
    files.write_json(files.join(output, layout.AUDIT), content)
    try:
        check_claim(content, claimed)
    except PrivacyError as error:
        files.write_json(files.join(history, layout.REFUTED), {"schema": 1, "error": str(error)})
        raise


def check_unrefuted(history: str) -> None:
    """Checks that no audit before has spoken against the ledger of this training.

    What is remembered lies beside the canaries: whoever has seen that a bound fails could
    otherwise look for settings under which it does not, and such a bound is void.

    Raises:
      PrivacyError: one has.
    """
    path = files.join(history, layout.REFUTED)
    if files.exists(path):
        raise PrivacyError(
            f"an audit before has refuted the ledger of this training ({path}), and other settings "
            "of the audit do not undo that. Nothing is pushed. Find the fault, then train again. "
            f"It said: {files.read_json(path)['error']}"
        )


def measure_losses(
    examples: str,
    model: str,
    config: AuditConfig,
    seed: int,
    make_pipeline: Callable[[], Any],
    folder: str,
) -> ClientLosses:
    """The losses of the attacked clients; see run_audit."""
    clients = {
        split: sample_clients(examples, split, config.clients, seed) for split in ("train", "eval")
    }
    path = files.join(folder, "client_losses.json")
    with make_pipeline() as pipeline:
        transforms.write_losses(pipeline, examples, model, clients, path)
    losses = files.read_json(path)
    files.remove(path)
    return ClientLosses(losses["train"], losses["eval"])

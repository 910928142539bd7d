"""Protobuf's JSON in REST answers: a model's SignatureDefs, and any other message."""

import json
from typing import Any

from privet.serving.signature_protos import signature_json
from privet.serving.versions import Servable


def metadata_json(servable: Servable) -> bytes:
    """GetModelMetadataResponse as TF Serving writes it: two messages, put together by hand."""
    model_spec = {
        "name": servable.model_name,
        "signature_name": "",
        "version": str(servable.version),
    }
    signatures = {
        "signature_def": {
            name: signature_json(signature)
            for name, signature in sorted(servable.engine.signature_defs.items())
        }
    }
    return (b'{\n"model_spec":%b,\n"metadata": {"signature_def": %b}\n}\n') % (
        message_text(model_spec),
        message_text(signatures),
    )


def message_text(message: dict[str, Any]) -> bytes:
    """A message's JSON as protobuf lays it out, with the line's end that it puts after it."""
    return json.dumps(message, indent=1, ensure_ascii=False).encode() + b"\n"

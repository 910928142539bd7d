"""The answer to a REST metadata request: a model's SignatureDefs as protobuf's JSON."""

import json

from privet.serving.signature_protos import signature_json
from privet.serving.versions import Servable


def metadata_json(servable: Servable) -> bytes:
    """GetModelMetadataResponse as TF Serving writes it: two messages, put together by hand."""
    model_spec = {
        "name": servable.model_name,
        "version": str(servable.version),
        "signature_name": "",
    }
    signatures = {
        "signature_def": {
            name: signature_json(signature)
            for name, signature in sorted(servable.engine.signature_defs.items())
        }
    }
    body = (
        f'"model_spec":{json.dumps(model_spec, indent=1)},\n'
        f'"metadata": {{"signature_def": {json.dumps(signatures, indent=1)}}}'
    )
    return f"{{\n{body}\n}}\n".encode()

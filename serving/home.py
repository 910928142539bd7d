"""The server's own page at `/`, and `/models`, from which it learns what the API does not tell."""

import base64
import hashlib
import json
import math
from collections.abc import Mapping
from importlib import resources
from typing import Any

from privet.components.shared.signatures import SERVING_DEFAULT
from privet.serving import inference
from privet.serving.engine import Engine, Signature, TensorSpec
from privet.serving.json_tensor import INTEGER_TYPES
from privet.serving.models import Models
from privet.serving.status import RequestError

# TensorFlow's types that TF Serving reads from JSON.
_ZEROS: dict[str, Any] = {
    "float": 0.0,
    "double": 0.0,
    "bool": False,
    "string": "",
    **dict.fromkeys(INTEGER_TYPES, 0),
}
# A body made up for more numbers than these in a tensor would be of no use in a form.
_MAXIMUM_NUMBERS = 10_000


def read_home() -> tuple[bytes, str]:
    """The page as one self-contained HTML file, and the policy that it is to be sent with.

    The Content-Security-Policy lets the browser run the page's own style and script, known by
    their hashes, and reach no other server than this.
    """
    folder = resources.files("privet.serving")
    html, css, js = (
        (folder / f"home.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
    )
    page = html.replace("{{ home.css }}", css).replace("{{ home.js }}", js)
    policy = (
        f"default-src 'none'; script-src '{_hash(js)}'; style-src '{_hash(css)}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return page.encode(), policy


def write_models(models: Models) -> bytes:
    """What `/models` answers: JSON with every model, its labels and its loaded versions.

    For each signature there is a body of zeros for every method that it can answer; null where
    none can be made up.
    """
    return json.dumps({"models": [_describe(models, name) for name in models.names()]}).encode()


def made_up_body(signature: Signature, method: str) -> str | None:
    """A REST request that fits a signature: zeros, one of each dimension that may have any size.

    >>> pixels = TensorSpec("x:0", "float", float, (-1, 3))
    >>> print(made_up_body(Signature("serving_default", "", {"x": pixels}, {}), "predict"))
    {
      "signature_name": "serving_default",
      "instances": [[0.0, 0.0, 0.0]]
    }

    Args:
      signature: what the request asks for.
      method: `predict`, `classify` or `regress`. The last two take an empty example, since a
        signature does not tell which features it parses.

    Returns:
      The text; None for tensors of more than 10,000 numbers, or types that JSON cannot carry.
    """
    if method != "predict":
        return _body(signature.name, "examples", [{}])
    columns = {name: _zeros(spec) for name, spec in signature.inputs.items()}
    if any(column is None for column in columns.values()):
        return None
    if columns and _is_batched(signature):
        row = {name: column[0] for name, column in columns.items()}
        return _body(signature.name, "instances", [_alone_or_named(row)])
    return _body(signature.name, "inputs", _alone_or_named(columns))


def _describe(models: Models, name: str) -> dict[str, Any]:
    """One model."""
    versions = [
        _describe_version(servable.version, servable.engine) for servable in models.servables(name)
    ]
    latest = versions[0]["version"] if versions else None
    labels = {label: str(version) for label, version in models.labels(name).items()}
    return {"name": name, "latest": latest, "labels": labels, "versions": versions}


def _describe_version(version: int, engine: Engine) -> dict[str, Any]:
    """One loaded version."""
    signatures = [
        {
            "name": name,
            "bodies": {method: made_up_body(signature, method) for method in _methods(signature)},
        }
        for name, signature in sorted(
            engine.signatures.items(), key=lambda item: (item[0] != SERVING_DEFAULT, item[0])
        )
        if not name.startswith("__saved_model")  # what initialises a model is no function of it
    ]
    return {"version": str(version), "engine": engine.kind, "signatures": signatures}


def _methods(signature: Signature) -> list[str]:
    """The REST methods that a signature can answer, the most telling one first."""
    methods = []
    for method, check in (
        ("classify", inference.check_classify_signature),
        ("regress", inference.check_regress_signature),
    ):
        try:
            check(signature)
        except RequestError:
            continue
        methods.append(method)
    return [*methods, "predict"]


def _is_batched(signature: Signature) -> bool:
    """Whether TF Serving's row format fits: all tensors have a first dimension of any size."""
    return all(
        spec.shape is not None and spec.shape[:1] == (-1,)
        for spec in (*signature.inputs.values(), *signature.outputs.values())
    )


def _zeros(spec: TensorSpec) -> Any:
    """Zeros of an input's type as nested lists; None if there are too many or JSON has no such."""
    zero = _ZEROS.get(spec.type_name)
    shape = [1 if size < 0 else size for size in ((-1,) if spec.shape is None else spec.shape)]
    if zero is None or math.prod(shape) > _MAXIMUM_NUMBERS:
        return None
    value: Any = zero
    for size in reversed(shape):
        value = [value] * size
    return value


def _alone_or_named(values: Mapping[str, Any]) -> Any:
    """A single value by itself, several by name: what TF Serving's formats ask for."""
    return next(iter(values.values())) if len(values) == 1 else dict(values)


def _body(signature_name: str, key: str, value: Any) -> str:
    """A request body, a line for each key."""
    name = json.dumps(signature_name)
    return f'{{\n  "signature_name": {name},\n  "{key}": {json.dumps(value)}\n}}'


def _hash(text: str) -> str:
    """A source expression for the policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"

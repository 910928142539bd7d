"""The three kinds of inference on a loaded model, on arrays; REST and gRPC both end here."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from privet.components.shared.signatures import (
    CLASSES_OUTPUT,
    EXAMPLES_INPUT,
    REGRESSION_OUTPUT,
    SCORES_OUTPUT,
    SERVING_DEFAULT,
)
from privet.serving.engine import Engine, Signature, shape_text
from privet.serving.status import Code, RequestError, invalid_argument


@dataclass(frozen=True)
class Classifications:
    """The result of a classify request.

    Attributes:
      labels: bytes as objects [examples, classes]; None if the signature gives scores only.
      scores: float32 [examples, classes]; None if the signature gives labels only.
    """

    labels: np.ndarray | None
    scores: np.ndarray | None

    def examples(self) -> Iterator[list[tuple[bytes, float]]]:
        """For each example its (label, score) pairs; what the model does not give is b"" or 0."""
        given = self.scores if self.labels is None else self.labels
        assert given is not None  # classify() refuses signatures with neither
        for row in range(given.shape[0]):
            labels = [b""] * given.shape[1] if self.labels is None else self.labels[row].tolist()
            scores = [0.0] * given.shape[1] if self.scores is None else self.scores[row].tolist()
            yield list(zip(labels, scores, strict=True))


def serialize_examples(examples: Iterable[Any], context: Any = None) -> np.ndarray:
    """tf.Examples as `classify` and `regress` take them: bytes as objects [examples].

    Args:
      examples: tf.Example messages.
      context: one whose features all of them have; None for none.
    """
    # Concatenated messages parse as one message with the fields of both.
    shared = b"" if context is None else context.SerializeToString()
    serialized = [shared + example.SerializeToString() for example in examples]
    array = np.empty(len(serialized), dtype=object)
    array[:] = serialized
    return array


def predict_signature(engine: Engine, name: str) -> Signature:
    """The signature of a predict request; the default one if the name is empty.

    Raises:
      RequestError: FAILED_PRECONDITION, there is none. (REST has its own words for it.)
    """
    name = name or SERVING_DEFAULT
    signature = engine.signatures.get(name)
    if signature is None:
        raise RequestError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    return signature


def predict(
    engine: Engine,
    signature: Signature,
    inputs: Mapping[str, np.ndarray],
    output_filter: tuple[str, ...] = (),
) -> dict[str, np.ndarray]:
    """Runs a signature on its inputs.

    Raises:
      RequestError: the inputs or the filter do not fit the signature, or the model failed.
    """
    check_input_names(signature, inputs)
    check_output_filter(signature, output_filter)
    return engine.run(signature.name, inputs, output_filter)


def classify(engine: Engine, signature_name: str, examples: np.ndarray) -> Classifications:
    """Classifies serialized tf.Examples, [examples] of bytes.

    Raises:
      RequestError: the signature is none for classifying, or the model failed.
    """
    signature = example_signature(engine, signature_name)
    check_classify_signature(signature)
    outputs = engine.run(signature.name, {EXAMPLES_INPUT: examples})
    labels, scores = outputs.get(CLASSES_OUTPUT), outputs.get(SCORES_OUTPUT)
    for what, tensor, wanted in (
        (CLASSES_OUTPUT, labels, "DT_STRING"),
        (SCORES_OUTPUT, scores, "DT_FLOAT"),
    ):
        if tensor is None:
            continue
        if tensor.ndim != 2:
            raise invalid_argument(
                "Expected Tensor shape: [batch_size num_classes] but got "
                f"{shape_text(tensor.shape)}"
            )
        found = signature.outputs[what].type_name
        if found != ("string" if what == CLASSES_OUTPUT else "float"):
            raise invalid_argument(f"Expected {what} Tensor of {wanted}. Got: DT_{found.upper()}")
        if tensor.shape[0] != len(examples):
            raise invalid_argument(
                f"Expected {what} output batch size of {len(examples)}. Got: {tensor.shape[0]}"
            )
    if labels is not None and scores is not None and labels.shape[1] != scores.shape[1]:
        raise invalid_argument(
            "Tensors class and score should match in dim_size(1). Got "
            f"{labels.shape[1]} vs. {scores.shape[1]}"
        )
    return Classifications(labels, scores)


def regress(engine: Engine, signature_name: str, examples: np.ndarray) -> np.ndarray:
    """Regresses serialized tf.Examples, [examples] of bytes, to float32 [examples].

    Raises:
      RequestError: the signature is none for regression, or the model failed.
    """
    signature = example_signature(engine, signature_name)
    check_regress_signature(signature)
    output = engine.run(signature.name, {EXAMPLES_INPUT: examples})[REGRESSION_OUTPUT]
    if not (output.ndim == 1 or (output.ndim == 2 and output.shape[1] == 1)):
        raise invalid_argument(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{shape_text(output.shape)}"
        )
    if output.shape[0] != len(examples):
        raise invalid_argument(
            f"Input batch size did not match output batch size: {len(examples)} vs. "
            f"{output.shape[0]}"
        )
    found = signature.outputs[REGRESSION_OUTPUT].type_name
    if found != "float":
        raise invalid_argument(f"Expected output Tensor of DT_FLOAT.  Got: DT_{found.upper()}")
    return output.reshape(-1)


def check_classify_signature(signature: Signature) -> None:
    """Refuses a signature that cannot classify. Its method_name does not count."""
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid_argument(
            f"Expected one or two output Tensors, found {len(signature.outputs)}"
        )
    if EXAMPLES_INPUT not in signature.inputs:
        raise invalid_argument(
            f"No classification inputs found in SignatureDef: {_names_text(signature)}"
        )
    if not signature.outputs.keys() & {CLASSES_OUTPUT, SCORES_OUTPUT}:
        raise invalid_argument(
            "Expected classification signature outputs to contain at least one of "
            f'"{CLASSES_OUTPUT}" or "{SCORES_OUTPUT}". Signature was: {_names_text(signature)}'
        )


def check_regress_signature(signature: Signature) -> None:
    """Refuses a signature that cannot regress. Its method_name does not count."""
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid_argument("Expected one output Tensor.")
    if EXAMPLES_INPUT not in signature.inputs:
        raise invalid_argument(
            f"No regression inputs found in SignatureDef: {_names_text(signature)}"
        )
    if REGRESSION_OUTPUT not in signature.outputs:
        raise invalid_argument(
            f"No regression outputs found in SignatureDef: {_names_text(signature)}"
        )


def example_signature(engine: Engine, name: str) -> Signature:
    """The signature of a classify or regress request; the default one if the name is empty."""
    name = name or SERVING_DEFAULT
    signature = engine.signatures.get(name)
    if signature is None:
        raise invalid_argument(f"No signature was found with the name: {name}")
    return signature


def check_input_names(signature: Signature, inputs: Iterable[str]) -> None:
    """Refuses a request whose inputs are not those of the signature."""
    given, wanted = set(inputs), set(signature.inputs)
    if len(given) != len(wanted):
        raise invalid_argument(
            f"input size does not match signature: {len(given)}!={len(wanted)} "
            f"len({_set_text(given)}) != len({_set_text(wanted)}). "
            f"Sent extra: {_set_text(given - wanted)}. "
            f"Missing but required: {_set_text(wanted - given)}."
        )
    for name, spec in signature.inputs.items():
        if name not in given:
            raise invalid_argument(
                f"Signature input alias: {name}(feed name: {spec.tensor_name}) not found in "
                "request and no default value provided. Inputs expected to be in the request "
                f"{_set_text(given)}, or default input alias set: "
            )


def check_output_filter(signature: Signature, output_filter: tuple[str, ...]) -> None:
    """Refuses names that are no outputs of the signature, or come twice."""
    seen: set[str] = set()
    for name in output_filter:
        if name not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {name} Outputs expected to be in "
                f"the set {_set_text(set(signature.outputs))}."
            )
        if name in seen:
            raise invalid_argument(f"duplicate output tensor alias: {name}")
        seen.add(name)


def _set_text(names: set[str]) -> str:
    """Names in TF Serving's messages: {a,b}."""
    return f"{{{','.join(sorted(names))}}}"


def _names_text(signature: Signature) -> str:
    """A signature in an error: what goes in and what comes out."""
    return f"inputs {_set_text(set(signature.inputs))}, outputs {_set_text(set(signature.outputs))}"

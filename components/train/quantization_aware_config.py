"""Settings of quantization-aware training inside clients; leaving the section out turns it off."""

from typing import Literal

from privet.components.shared.configuration import Config


class QuantizationAwareConfig(Config, frozen=True):
    """Clients train the model as its int8 form computes; see components/shared/fake_quant.py.

    Attributes:
      bits: of weights and activations. TFLite's converter knows 8.
    """

    bits: Literal[8] = 8

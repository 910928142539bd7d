"""Settings of compression: which variants of the trained model are built."""

from collections.abc import Sequence

from privet.components.compress.variant_config import MEASURED_ONLY, VariantConfig
from privet.components.shared.configuration import Config, check

BASELINE = VariantConfig()
"""The trained weights as they are: what every variant's size is set beside."""

_TAKEN = ("float", "compressed", "blessed", "ledger", "personalized", "personalization_gain")
"""Names that mean something else in an evaluation and in the gate's rules."""

_DEFAULT = (
    VariantConfig(quantization="float16"),
    VariantConfig(quantization="int8_weights"),
    VariantConfig(quantization="int8", ranges="synthetic"),
    VariantConfig(quantization="dynamic_range"),
)


class CompressConfig(Config, frozen=True):
    """Which variants of the trained model are built and measured; `select` picks one of them.

    Nothing here looks at the data of clients under privacy: what is made of noised weights and of
    public or synthetic inputs has the guarantee of the training.

    Attributes:
      variants: see VariantConfig. float32, the weights as they were trained, is always built too.
    """

    variants: tuple[VariantConfig, ...] = _DEFAULT

    def __post_init__(self) -> None:
        labels = [variant.label for variant in self.all]
        for label in labels:
            check(
                labels.count(label) == 1,
                f"variants: {label!r} is the name of {labels.count(label)} of them. Give each a "
                "name of its own",
            )
            check(label not in _TAKEN, f"variants: name={label!r} is taken. Choose another name")

    @property
    def all(self) -> tuple[VariantConfig, ...]:
        """The variants, the baseline first."""
        return (BASELINE, *(variant for variant in self.variants if variant != BASELINE))

    @property
    def wants_public_data(self) -> bool:
        """Whether a variant cannot be made without `public_data`."""
        return any(variant.wants_public_data for variant in self.variants)

    @property
    def wants_trained_ranges(self) -> bool:
        """Whether a variant cannot be made without ranges that clients have trained."""
        return any(variant.ranges == "trained" for variant in self.variants)

    @property
    def asking_for_clients(self) -> list[str]:
        """Names of the variants that would look at the data of clients."""
        return [variant.label for variant in self.variants if variant.asks_for_clients]

    @property
    def servable(self) -> tuple[str, ...]:
        """Names of the variants that both serving engines can answer with alike."""
        return tuple(v.label for v in self.all if v.quantization not in MEASURED_ONLY)


def clients_refused(asking: Sequence[str]) -> str:
    """Why variants cannot be made with clients' data, and what to do instead.

    Args:
      asking: names of the variants.
    """
    return (
        f"compress.variants {', '.join(asking)}: ranges=clients and fine_tuning.data=clients "
        "would look at the data of clients after training, which no epsilon covers (a range is the "
        "value of a single example). Set ranges: public or fine_tuning.data: public, with "
        "public_data; or ranges: synthetic; or train.quantization_aware with ranges: trained, "
        "whose ranges are clipped and noised with the update; or train.privacy.mechanism: none"
    )

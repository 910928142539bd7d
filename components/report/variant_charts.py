"""Charts of the model's variants: what they weigh and how long an example takes."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from privet.components.report.chart_parts import paired_bars
from privet.components.report.vega import chart
from privet.components.report.wording import byte_size, microseconds

BATCH = 32  # examples in the larger of the two timed calls


@dataclass(frozen=True)
class Variant:
    """One variant of the model.

    Attributes:
        name: as the compressor calls it.
        raw: bytes of its TFLite file.
        gzip: bytes of that file, gzipped.
        single: microseconds of a call with one example; None if it was not timed.
        batch: microseconds of a call with `BATCH` examples; None if it was not timed.
        served: whether it is the one that is served.
    """

    name: str
    raw: int
    gzip: int
    single: float | None = None
    batch: float | None = None
    served: bool = False

    @property
    def title(self) -> str:
        return self.name + (" · served" if self.served else "")


def variant_sizes(variants: Sequence[Variant]) -> Markup:
    """Draws the raw and the gzipped size of every variant."""
    rows = [(one.title, (float(one.raw), float(one.gzip)), one.served) for one in variants]
    sizes = (
        f"{one.name}: {byte_size(one.raw)} raw, {byte_size(one.gzip)} gzipped" for one in variants
    )
    return chart(
        paired_bars(rows, ("raw", "gzip"), byte_size),
        "sizes",
        "Size of every variant",
        "; ".join(sizes) + ".",
    )


def variant_times(variants: Sequence[Variant]) -> Markup:
    """Draws the time of an example, alone and in a batch, of the variants that were timed."""
    rows = [
        (one.title, (one.single, one.batch / BATCH), one.served)
        for one in variants
        if one.single is not None and one.batch is not None
    ]
    times = (
        f"{title}: {microseconds(alone)} alone, {microseconds(batched)} in a batch of {BATCH}"
        for title, (alone, batched), _ in rows
    )
    return chart(
        paired_bars(rows, ("alone", f"in a batch of {BATCH}"), microseconds),
        "times",
        "Time of an example",
        "; ".join(times) + ".",
    )

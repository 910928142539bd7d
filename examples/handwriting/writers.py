"""Synthetic writers: how each one deforms the alphabets, and the images that come of it.

A writer has habits (a usual alphabet, other shapes for some characters, slant, size, pen, ink
and a bend of its own in each character) and is unsteady: no two images of a character are alike.
"""

import dataclasses

import numpy as np
from alphabets import ALPHABETS, CLASSES, GRID, distance_fields

SIDE = 28
"""Pixels on a side of an image."""

CELLS = 2.15
"""Cells of a distance field to a pixel of an image, for a writer of scale 1."""

STROKE = (1.7, 3.1)
"""Width of a pen's stroke, least and greatest, in pixels."""

SCRIPT_STROKE = 2.3
"""The greatest width for ornate letters, whose loops a thick pen would fill."""

INK = (165, 255)
"""Grey level in the middle of a stroke, least and greatest."""


@dataclasses.dataclass(frozen=True)
class Writer:
    """What stays the same in all images of a writer.

    Attributes:
      kind: of the alphabets, a key of ALPHABETS.
      alphabets: the alphabet of each class among those of the kind, int [classes].
      slant: horizontal shift for a rise of 1; positive leans to the right.
      width, height: scale of letters, 1 for the usual.
      stroke: width of the pen's stroke in pixels, within STROKE.
      ink: grey level in the middle of a stroke, within INK.
      softness: pixels over which the edge of a stroke fades.
      bends: displacements in cells of each class by each wave, float32 [classes, 2, waves].
      unsteadiness: how much images of one class differ, about 0.5 .. 1.5.
      grain: the paper's noise in grey levels, at most.
    """

    kind: str
    alphabets: np.ndarray
    slant: float
    width: float
    height: float
    stroke: float
    ink: float
    softness: float
    bends: np.ndarray
    unsteadiness: float
    grain: float


def make_writer(generator: np.random.Generator, kind: str = "plain") -> Writer:
    """Draws the habits of a writer, who learned alphabets of a kind (a key of ALPHABETS)."""
    count = len(ALPHABETS[kind])
    usual, plain = generator.integers(count), count - 1
    elsewhere = generator.integers(plain, size=len(CLASSES))
    alphabets = np.where(generator.random(len(CLASSES)) < 0.3, elsewhere, usual)
    thickest = STROKE[1] if usual < plain else SCRIPT_STROKE
    scale = generator.uniform(0.82, 1.06)
    shape = generator.uniform(-0.1, 0.1)
    bends = _waves(generator, len(CLASSES), 2) * generator.uniform(1.5, 3.2)
    return Writer(
        kind=kind,
        alphabets=alphabets,
        slant=float(np.clip(generator.normal(0.1, 0.2), -0.4, 0.55)),
        width=scale * (1 + shape),
        height=scale * (1 - shape),
        stroke=STROKE[0] + (thickest - STROKE[0]) * generator.beta(1.6, 2.4),
        ink=generator.uniform(*INK),
        softness=generator.uniform(0.9, 1.6),
        bends=bends,
        unsteadiness=generator.uniform(0.5, 1.5),
        grain=generator.uniform(0.0, 14.0),
    )


def draw_images(writer: Writer, labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Writes characters.

    Args:
      writer: whose hand.
      labels: class of each image, int [images].
      generator: source of what differs from image to image.

    Returns:
      Images, uint8 [images, SIDE, SIDE]: 0 is paper, 255 the darkest ink.
    """
    count = len(labels)
    x, y, pressure = _positions(writer, labels, generator)
    fields = distance_fields(writer.kind)
    distances = _sample(fields, writer.alphabets[labels] * len(CLASSES) + labels, x, y)
    # The pen covers a pixel by how far the pixel lies inside the edge of the stroke.
    cells_to_pixels = np.float32(np.sqrt(writer.width * writer.height) / CELLS)
    distances *= -cells_to_pixels / np.float32(writer.softness)
    distances += (0.5 * writer.stroke * (1 + pressure)) / np.float32(writer.softness) + 0.5
    covered = np.clip(distances, 0, 1, out=distances)
    covered *= covered * (3 - 2 * covered)  # smoothstep
    covered *= (writer.ink * generator.uniform(0.9, 1.0, (count, 1))).astype(np.float32)
    noise = generator.integers(256, size=covered.shape, dtype=np.uint8)
    covered += (noise - np.float32(127.5)) * np.float32(writer.grain / 128)
    np.clip(covered, 0, 255, out=covered)
    return covered.astype(np.uint8).reshape(count, SIDE, SIDE)


def _positions(
    writer: Writer, labels: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where in its distance field each pixel lies: x and y in cells; and the pen's pressure there.

    A position is linear in the functions of `_BASIS`: one product of matrices does all images.
    """
    count = len(labels)
    rotation, slant, width, height = (
        generator.normal(0, deviation * writer.unsteadiness, count)
        for deviation in (0.06, 0.04, 0.04, 0.04)
    )
    shift = np.clip(generator.normal(0, 0.6 * writer.unsteadiness, (count, 2)), -1.5, 1.5)
    slant += writer.slant
    wide = CELLS / (writer.width * np.exp(width))
    high = CELLS / (writer.height * np.exp(height))
    cosine, sine = np.cos(rotation), np.sin(rotation)
    # Letter to image: scale, slant, rotate, shift. The lines here are the inverse.
    from_x = np.stack([wide * (cosine - slant * sine), -high * sine], axis=1)
    from_y = np.stack([wide * (sine + slant * cosine), high * cosine], axis=1)
    middle = (GRID - 1) / 2 - from_x * shift[:, :1] - from_y * shift[:, 1:]
    coefficients = np.zeros((count, 3, len(_BASIS)), np.float32)
    coefficients[:, :2, 0] = middle
    coefficients[:, :2, 1] = from_x
    coefficients[:, :2, 2] = from_y
    waves = _waves(generator, count, 3) * np.float32(writer.unsteadiness)
    coefficients[:, :2, 3:] = writer.bends[labels] + 0.8 * waves[:, :2]
    coefficients[:, 2, 3:] = 0.12 * waves[:, 2]
    x, y, pressure = np.moveaxis(coefficients @ _BASIS, 1, 0)
    return x, y, np.clip(pressure, -0.25, 0.25)


def _sample(fields: np.ndarray, glyphs: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distances at positions of fields, between cells by bilinear interpolation.

    Args:
      fields: float32 [alphabets, classes, GRID, GRID].
      glyphs: number of each image's field, int [images].
      x, y: positions in cells, float32 [images, pixels]; outside counts as the edge.

    Returns:
      Distances in cells, float32 [images, pixels].
    """
    fields = fields.reshape(-1)
    edge = np.float32(GRID - 1.001)  # the cell after it is still inside
    x, y = np.clip(x, 0, edge), np.clip(y, 0, edge)
    left, top = x.astype(np.int64), y.astype(np.int64)
    x -= left
    y -= top
    corner = top * GRID
    corner += left
    corner += glyphs[:, None] * (GRID * GRID)
    upper, lower = fields[corner], fields[corner + GRID]
    upper += x * (fields[corner + 1] - upper)
    lower += x * (fields[corner + (GRID + 1)] - lower)
    upper += y * (lower - upper)
    return upper


def _waves(generator: np.random.Generator, count: int, axes: int) -> np.ndarray:
    """Random coefficients of the waves of `_BASIS`, float32 [count, axes, waves]."""
    return generator.standard_normal((count, axes, len(_STRENGTHS)), np.float32) * _STRENGTHS


def _make_basis() -> tuple[np.ndarray, np.ndarray]:
    """1, x, y and slow waves over the pixels [functions, pixels]; and how strong each wave is."""
    along = np.arange(SIDE)
    waves = [np.cos(np.pi * (along + 0.5) / SIDE * frequency) for frequency in range(5)]
    frequencies = [(i, j) for i in range(5) for j in range(5) if 0 < i + j <= 5]
    y, x = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    functions = [np.ones((SIDE, SIDE)), x, y]
    functions += [np.outer(waves[i], waves[j]) for i, j in frequencies]
    strengths = [(i + j) ** -1.4 for i, j in frequencies]
    basis = np.stack(functions).reshape(len(functions), -1)
    return basis.astype(np.float32), np.array(strengths, np.float32)


_BASIS, _STRENGTHS = _make_basis()

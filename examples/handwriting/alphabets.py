"""Alphabets of pen strokes: the letter shapes that the writers of the population deform.

A printed letter is thick here and thin there; a pen is not. So every glyph of a font is thinned to
its centre lines, and what is kept is a distance field: how far each point is from the nearest
centre line. A stroke of any width is then a threshold of the field, smooth at any size, and no
stroke is thinner than the pen.
"""

import functools
import string
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import ImageFont

CLASSES = string.digits + string.ascii_uppercase + string.ascii_lowercase
"""The 62 characters; a class's number is its position."""

GRID = 64
"""Cells on a side of a distance field."""

BOX = 44
"""Cells from the top to the bottom of a capital letter, which lies in the middle of the grid."""

FONTS = (
    "DejaVuSans",
    "DejaVuSansMono",
    "STIXGeneral",
    "STIXGeneralItalic",
    "cmss10",
    "cmtt10",
    "cmmi10",
)
"""Fonts of matplotlib's wheel with all of the characters and distinct centre lines; mostly without
serifs, which hands seldom write."""

SCRIPT = ("STIXGeneral", 0x1D4D0)
"""A font with cursive letters, and the code point of the first (Unicode's bold script A-Z a-z)."""

SERIF_FONTS = ("DejaVuSerif", "cmr10", "cmb10", "DejaVuSerif-Italic")
"""Fonts of matplotlib's wheel with serifs: letters that no writer of the others has ever seen."""

ALPHABETS = {"plain": (*FONTS, "Aileron", "script"), "serif": SERIF_FONTS}
"""Names of the alphabets of each kind of population; Aileron is the font inside Pillow. The last of
a kind is its ornate one."""

_DETAIL = 2  # pixels of a rasterised glyph to a cell of the field
_REFERENCE = 100  # font size at which glyphs are measured
_WIDEST = 1.2  # width of a letter at most, in heights of a capital
_SHRINKAGE = 0.6  # of small letters: 1 would keep a font's own sizes, 0 make all alike
_LETTERS = CLASSES[10:]


@functools.cache
def distance_fields(kind: str) -> np.ndarray:
    """Draws every alphabet of a kind, once a process (seconds).

    Args:
      kind: a key of ALPHABETS.

    Returns:
      Distances to the nearest centre line in cells, float32 [alphabets, classes, GRID, GRID],
      indexed [.., y, x] from the top left.
    """
    fields = [_distances(_rasterise(alphabet)) for alphabet in ALPHABETS[kind]]
    return np.stack(fields)


def thin(shapes: np.ndarray) -> np.ndarray:
    """Thins shapes to centre lines one pixel wide; what is connected stays connected.

    Algorithm A1 of Z. Guo and R. W. Hall, 1989, "Parallel thinning with two-subiteration
    algorithms", Communications of the ACM 32(3).

    Args:
      shapes: bool [shapes, height, width], the outermost pixels False.

    Returns:
      The centre lines, bool of the same shape.
    """
    pixels = shapes.astype(np.uint8)
    inner = pixels[:, 1:-1, 1:-1]
    height, width = inner.shape[1:]
    # The neighbours P2 .. P9 of the paper: clockwise from the one above.
    steps = ((0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0))
    neighbours = [pixels[:, y : y + height, x : x + width] for y, x in steps]
    changed = True
    while changed:
        changed = False
        for removable in _removable():
            code = np.zeros_like(inner)
            for bit, neighbour in enumerate(neighbours):
                code |= neighbour << bit
            removed = removable[code] & inner
            inner ^= removed
            changed = changed or bool(removed.any())
    return pixels.astype(bool)


def _removable() -> tuple[np.ndarray, np.ndarray]:
    """Which pixels each half of a step removes, uint8 [256] by their neighbours as bits."""
    p2, p3, p4, p5, p6, p7, p8, p9 = ((np.arange(256) >> bit) & 1 == 1 for bit in range(8))
    pairs = ((p2, p3, p4), (p4, p5, p6), (p6, p7, p8), (p8, p9, p2))
    crossings = sum((~a & (b | c)).astype(int) for a, b, c in pairs)
    one = sum(pair.astype(int) for pair in (p9 | p2, p3 | p4, p5 | p6, p7 | p8))
    other = sum(pair.astype(int) for pair in (p2 | p3, p4 | p5, p6 | p7, p8 | p9))
    fewest = np.minimum(one, other)
    simple = (crossings == 1) & (fewest >= 2) & (fewest <= 3)
    first = simple & ~((p2 | p3 | ~p5) & p4)
    second = simple & ~((p6 | p7 | ~p9) & p8)
    return first.astype(np.uint8), second.astype(np.uint8)


def _rasterise(alphabet: str) -> np.ndarray:
    """The glyphs of an alphabet in the middle of their grids, bool [classes, pixels, pixels].

    Small letters are enlarged, but stay smaller than capitals: most of what tells o from O.
    """
    from PIL import Image, ImageDraw

    side = GRID * _DETAIL
    capital = _size(alphabet, "H")[1]
    glyphs = np.zeros((len(CLASSES), side, side), bool)
    for glyph, character in zip(glyphs, CLASSES, strict=True):
        longer = max(_size(alphabet, character))
        relative = min(longer / capital, _WIDEST)
        extent = BOX * _DETAIL * (relative**_SHRINKAGE if relative < 1 else relative)
        text, font = _text_and_font(alphabet, character, _REFERENCE * extent / longer)
        left, top, right, bottom = font.getbbox(text)
        corner = ((side - left - right) / 2, (side - top - bottom) / 2)
        image = Image.new("L", (side, side))
        ImageDraw.Draw(image).text(corner, text, fill=255, font=font)
        glyph[:] = np.asarray(image) >= 128
    return glyphs


def _size(alphabet: str, character: str) -> tuple[float, float]:
    """Width and height of a glyph, in pixels at the reference size."""
    text, font = _text_and_font(alphabet, character, _REFERENCE)
    left, top, right, bottom = font.getbbox(text)
    return right - left, bottom - top


def _text_and_font(
    alphabet: str, character: str, size: float
) -> "tuple[str, ImageFont.FreeTypeFont]":
    """What to draw, and with which font, to get an alphabet's character."""
    from matplotlib import get_data_path
    from PIL import ImageFont

    if alphabet == "Aileron":
        font = ImageFont.load_default(size)
        assert isinstance(font, ImageFont.FreeTypeFont), "this Pillow was built without FreeType"
        return character, font
    name = alphabet
    if alphabet == "script":
        name, first = SCRIPT
        if character.isalpha():
            character = chr(first + _LETTERS.index(character))
    path = Path(get_data_path(), "fonts", "ttf", f"{name}.ttf")
    return character, ImageFont.truetype(str(path), size)


def _distances(shapes: np.ndarray) -> np.ndarray:
    """Distance of each cell to the nearest centre line, in cells."""
    from scipy import ndimage

    lines = thin(shapes)
    distances = np.stack([ndimage.distance_transform_edt(~line) for line in lines])
    return (distances[:, ::_DETAIL, ::_DETAIL] / _DETAIL).astype(np.float32)

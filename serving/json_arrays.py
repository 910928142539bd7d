"""Arrays as JSON text with TF Serving's digits and layout, at the speed of NumPy and orjson."""

import base64
import struct

import numpy as np
import orjson

from privet.serving.json_writer import decimal, quoted
from privet.serving.status import invalid_argument

_INDENT = "    "
_NUMPY = orjson.OPT_SERIALIZE_NUMPY
_INTEGER_CODES = "bBhilqILQ?"
_FEW = 16  # floats, or fewer, are written sooner by Python than by NumPy
_WORDS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}

# A float32 from 0.0001 to below a million times these powers of ten is exact in a double, and has
# six digits, or nine, before its point. By decade; other floats become NaN.
_DECADES = 10.0 ** np.arange(-4, 7)
_SIX_DIGITS = np.array([np.nan, *10.0 ** np.arange(9, -1, -1), np.nan])
_NINE_DIGITS = 1000 * _SIX_DIGITS

# Smaller ones, from 1e-14 to below 0.000099999: by decade, what makes a whole number of six or nine
# digits of them. The latter is split into two, whose products with a float32 are exact in a double.
_SMALL_EXPONENTS = np.arange(-14, -4)
_SMALL_DECADES = 10.0**_SMALL_EXPONENTS
_SMALL_END = 9.9999e-5
_SMALL_SIX_DIGITS = 10.0 ** (5 - _SMALL_EXPONENTS)
_SMALL_NINE_DIGITS = 10.0 ** (8 - _SMALL_EXPONENTS)
_SMALL_NINE_HIGH = (_SMALL_NINE_DIGITS.view(np.int64) & (-1 << 27)).view(np.float64)
_SMALL_NINE_LOW = _SMALL_NINE_DIGITS - _SMALL_NINE_HIGH
# orjson writes them with exponents that no other number here has, 25 for -5, 26 for -6 and so on.
# These become `%g`'s in the text. (Digits times such a power of ten are right to the last bit.)
_SMALL_SCALE = 10.0 ** np.where(
    _SMALL_EXPONENTS < -10, -3 - _SMALL_EXPONENTS, 12 - _SMALL_EXPONENTS
)
_SMALL_TEXTS = ((b"e+2", b"e-0"), (b"e+30", b"e-10"))
_SMALLEST_TEXTS = tuple((b"e+%d" % (5 + n), b"e-%d" % n) for n in range(11, 15))


def compact_numbers(array: np.ndarray) -> bytes | None:
    """Writes numbers or truth values as nested lists, without any space.

    Returns:
      The text; None if the array holds something else.

    A float has six digits if they read back as the same number of its width, else all that the
    width can need; whole ones end in `.0`.
    """
    if array.dtype.char == "f":
        return _few_floats(array) if array.size <= _FEW else _compact_floats(array)
    if array.dtype.char == "d":
        return _with_texts(orjson.dumps(np.full_like(array, np.nan), option=_NUMPY), array)
    if array.dtype.char in _INTEGER_CODES:
        return orjson.dumps(array.tolist())
    return None


def array_texts(array: np.ndarray, *, kept_axes: int, level: int, as_base64: bool) -> list[str]:
    """Writes an array as nested lists, all on one line or each value on its own.

    Args:
      array: numbers, truth values, or strings as objects that are bytes.
      kept_axes: 1 to write each element of the first axis by itself, its lists on one line; 0 to
        write the whole, lists spread over lines.
      level: how many lists and objects are open around the texts.
      as_base64: write strings as `{"b64": ...}`.

    Raises:
      RequestError: INVALID_ARGUMENT, JSON has no form for this type.
    """
    depth = level + array.ndim - kept_axes
    texts = _element_texts(array, depth if as_base64 else None)
    for axis in range(array.ndim - 1, kept_axes - 1, -1):
        depth -= 1
        length = array.shape[axis]
        if length == 0:
            texts = ["[]"] * int(np.prod(array.shape[:axis], dtype=int))
            continue
        if kept_axes:
            opening, separator, closing = "[", ", ", "]"
        else:
            inner, outer = "\n" + _INDENT * (depth + 1), "\n" + _INDENT * depth
            opening, separator, closing = f"[{inner}", f",{inner}", f"{outer}]"
        texts = [
            opening + separator.join(texts[start : start + length]) + closing
            for start in range(0, len(texts), length)
        ]
    return texts


def _element_texts(array: np.ndarray, base64_level: int | None) -> list[str]:
    """Each element's text, in order; strings as base64 objects at a level, if one is given."""
    if array.size == 0:
        return []
    numbers = compact_numbers(array.reshape(-1))
    if numbers is not None:
        return numbers[1:-1].decode("ascii").split(",")
    if array.dtype.kind in "OSU":
        values = [value if isinstance(value, bytes) else value.encode() for value in array.flat]
        if base64_level is None:
            return [quoted(value.decode("utf-8", "surrogateescape")) for value in values]
        inner, outer = "\n" + _INDENT * (base64_level + 1), "\n" + _INDENT * base64_level
        return [
            f'{{{inner}"b64": "{base64.b64encode(value).decode("ascii")}"{outer}}}'
            for value in values
        ]
    name = "half" if array.dtype == np.float16 else str(array.dtype)
    raise invalid_argument(f"Failed to write JSON value for tensor type: {name}")


def _few_floats(array: np.ndarray) -> bytes:
    """Writes float32, of any shape with elements."""
    texts = _float_texts(tuple(array.reshape(-1).tolist()))
    for length in array.shape[::-1]:
        starts = range(0, len(texts), length)
        texts = [f"[{','.join(texts[start : start + length])}]" for start in starts]
    return texts[0].encode("ascii")


def _float_texts(values: tuple[float, ...]) -> list[str]:
    """Each float32's text, as `decimal` writes it."""
    form = f"{len(values)}f"
    texts = ("%g " * len(values) % values).split()
    again = struct.unpack(form, struct.pack(form, *map(float, texts)))
    if again != values:
        nine_digits = ("%.9g " * len(values) % values).split()
        found = zip(texts, nine_digits, again, values, strict=True)
        texts = [six if same == value else nine for six, nine, same, value in found]
    return [text if "." in text or "e" in text else _whole(text) for text in texts]


def _whole(text: str) -> str:
    return _WORDS.get(text) or text + ".0"


def _compact_floats(array: np.ndarray) -> bytes:
    """Writes float32.

    Each is rounded to the double nearest to the six or nine digits wanted; orjson then prints the
    fewest digits that give that double, which are these. What `%g` writes otherwise than orjson
    (large exponents, NaN, infinities) goes through it as NaN, which it prints as null.
    """
    exact = array.astype(np.float64)
    size = np.abs(exact)
    decade = _DECADES.searchsorted(size, "right")
    scale = _SIX_DIGITS[decade]
    six_digits = np.rint(exact * scale) / scale
    scale = _NINE_DIGITS[decade]
    nine_digits = np.rint(exact * scale) / scale
    rounded = np.where(six_digits.astype(np.float32) == array, six_digits, nine_digits)
    small = (size < _SMALL_END) & (size >= _SMALL_DECADES[0])
    if small.any():
        rounded[small] = _small_floats(array[small])
    text = orjson.dumps(rounded, option=_NUMPY)
    if b"e+" in text:
        for written, wanted in (
            _SMALL_TEXTS if b"e+1" not in text else _SMALL_TEXTS + _SMALLEST_TEXTS
        ):
            text = text.replace(written, wanted)
    return _with_texts(text, array[np.isnan(rounded)]) if b"null" in text else text


def _small_floats(numbers: np.ndarray) -> np.ndarray:
    """The numbers to write for float32 from 1e-14 to below 0.000099999.

    A product with a power of ten is rounded to nine digits exactly as it is without the limits of
    a double: what the sum of its two exact parts lost decides where that sum is close to a tie.
    """
    exact = numbers.astype(np.float64)
    decade = _SMALL_DECADES.searchsorted(np.abs(exact), "right") - 1
    high, low = exact * _SMALL_NINE_HIGH[decade], exact * _SMALL_NINE_LOW[decade]
    product = high + low
    lost = low - (product - high)
    digits = np.rint(product)
    rest = (product - digits) + lost
    digits += (rest > 0.5).astype(np.float64) - (rest < -0.5)
    scale = _SMALL_SIX_DIGITS[decade]
    six_digits = np.rint(exact * scale)
    digits = np.where((six_digits / scale).astype(np.float32) == numbers, 1000 * six_digits, digits)
    over = np.abs(digits) == 1e9  # rounded up to the next decade
    if over.any():
        digits[over] /= 10
        decade[over] += 1
    return digits * _SMALL_SCALE[decade]


def _with_texts(text: bytes, numbers: np.ndarray) -> bytes:
    """Puts the numbers in the places of the nulls, in order."""
    values = numbers.reshape(-1).tolist()
    if numbers.dtype.char == "f":
        texts = _float_texts(tuple(values))
    else:
        texts = [decimal(value, np.float64) for value in values]
    pieces = text.split(b"null")
    for position, written in enumerate(texts):
        pieces[position] += written.encode("ascii")
    return b"".join(pieces)

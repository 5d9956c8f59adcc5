"""EXIF's orientation read from a picture file's bytes by TensorFlow's operations, which decode pictures as stored.

So the same graph turns pictures upright in training and in a SavedModel, where no Python runs. The formats: JPEG's
segments (ITU-T T.81, annex B), PNG's chunks, WebP's RIFF chunks, and in them a TIFF file of tags (EXIF 2.32, 4.5.4).
"""

from collections.abc import Callable

import tensorflow as tf

_TAG = 0x0112
_SHORT, _LONG = 3, 4
_ENTRY = 12  # bytes: tag 2, type 2, count 4, value 4
_EXIF = b"Exif\0\0"
_SOI_TO_RST = range(0xD0, 0xD9)  # markers without a length: RST0..RST7 and SOI
_TEM, _EOI, _SOS, _APP1 = 0x01, 0xD9, 0xDA, 0xE1

_Step = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def jpeg_orientation(data: tf.Tensor) -> tf.Tensor:
    """The orientation that a JPEG's first EXIF segment says; see `_orientation`."""
    return _orientation(data, 2, _jpeg_step)


def png_orientation(data: tf.Tensor) -> tf.Tensor:
    """The orientation that a PNG's `eXIf` chunk says; see `_orientation`."""
    return _orientation(data, 8, _png_step)


def webp_orientation(data: tf.Tensor) -> tf.Tensor:
    """The orientation that a WebP's `EXIF` chunk says; see `_orientation`."""
    return _orientation(data, 12, _webp_step)


def upright(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turn pixels as they are stored into pixels as they are shown.

    Args:
        pixels: [height, width, channels].
        orientation: int64, 1 to 8.
    """

    def turned() -> tf.Tensor:
        turned = tf.cond(orientation >= 5, lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels)
        rows = tf.where(_among(orientation, (3, 4, 7, 8)), -1, 1)
        columns = tf.where(_among(orientation, (2, 3, 6, 7)), -1, 1)
        return turned[::rows, ::columns]

    return tf.cond(orientation == 1, lambda: pixels, turned)


def _orientation(data: tf.Tensor, start: int, step: _Step) -> tf.Tensor:
    """1 to 8, int64; 1 when there is none or it cannot be made out, as viewers have it.

    Args:
        data: the file, a scalar string.
        start: where its first segment begins.
        step: from the bytes and a segment's beginning to where the tags begin in it, or -1, and where the next one
            begins, which is behind this one; at the end of the file or beyond there is none.
    """
    raw = tf.io.decode_raw(data, tf.uint8)
    size = tf.size(raw, tf.int64)

    def walk(place: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        found, following = step(raw, place)
        return following, found

    _, tags = tf.while_loop(
        lambda place, found: (found < 0) & (place < size),
        walk,
        (tf.constant(start, tf.int64), tf.constant(-1, tf.int64)),
        parallel_iterations=1,
    )
    return tf.cond(tags < 0, lambda: tf.constant(1, tf.int64), lambda: _from_tags(raw, tags))


def _jpeg_step(raw: tf.Tensor, place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A marker: FF, which may be repeated, the marker's number, and mostly a length that counts itself."""
    marker, length = _number(raw, place + 1, 1), _number(raw, place + 2, 2)
    fill = marker == 0xFF
    bare = (marker == _TEM) | ((marker >= _SOI_TO_RST.start) & (marker < _SOI_TO_RST.stop))
    over = (_number(raw, place, 1) != 0xFF) | (marker == _SOS) | (marker == _EOI) | (~fill & ~bare & (length < 2))
    exif = (marker == _APP1) & ~over & _says(raw, place + 4, _EXIF)
    ahead = tf.where(fill, tf.constant(1, tf.int64), tf.where(bare, tf.constant(2, tf.int64), 2 + length))
    following = tf.where(over, tf.size(raw, tf.int64), place + ahead)
    return tf.where(exif, place + 4, -1), following


def _png_step(raw: tf.Tensor, place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A chunk: length, name, data, checksum."""
    return tf.where(_says(raw, place + 4, b"eXIf"), place + 8, -1), place + 12 + _number(raw, place, 4)


def _webp_step(raw: tf.Tensor, place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A chunk: name, length, data, one byte more if the length is odd."""
    length = _number(raw, place + 4, 4, little=True)
    return tf.where(_says(raw, place, b"EXIF"), place + 8, -1), place + 8 + length + length % 2


def _from_tags(raw: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """The orientation of a TIFF file of tags that begins at `start`, with or without EXIF's own prefix."""
    start = tf.where(_says(raw, start, _EXIF), start + len(_EXIF), start)
    little = _says(raw, start, b"II*\0")
    known = little | _says(raw, start, b"MM\0*")
    directory = start + _number(raw, start + 4, 4, little)
    first = directory + 2
    count = tf.minimum(_number(raw, directory, 2, little), (tf.size(raw, tf.int64) - first) // _ENTRY)
    inside = known & (count > 0) & (directory >= start + 8)

    def value() -> tf.Tensor:
        entries = tf.cast(tf.reshape(raw[first : first + count * _ENTRY], (-1, _ENTRY)), tf.int64)
        tag, kind = _column(entries, 0, 2, little), _column(entries, 2, 2, little)
        short, long = _column(entries, 8, 2, little), _column(entries, 8, 4, little)
        values = tf.where(kind == _SHORT, short, tf.where(kind == _LONG, long, 0))
        ours = (tag == _TAG) & (_column(entries, 4, 4, little) == 1)
        last = tf.boolean_mask(values, ours)[-1:]  # a repeated tag: the last one, as Pillow takes it
        said = tf.reduce_sum(last)
        return tf.where((said >= 1) & (said <= 8), said, 1)

    return tf.cond(inside, value, lambda: tf.constant(1, tf.int64))


def _column(entries: tf.Tensor, start: int, width: int, little: tf.Tensor) -> tf.Tensor:
    """The numbers in `width` bytes of each row."""
    digits = entries[:, start : start + width]
    digits = tf.where(little, digits[:, ::-1], digits)
    return tf.reduce_sum(digits * tf.constant([256**power for power in reversed(range(width))], tf.int64), axis=1)


def _number(raw: tf.Tensor, place: tf.Tensor, width: int, little: tf.Tensor | bool = False) -> tf.Tensor:
    """The number in `width` bytes; bytes behind the file's end count as 0."""
    piece = _piece(raw, place, width)
    return _column(tf.cast(piece, tf.int64)[None], 0, width, tf.convert_to_tensor(little))[0]


def _says(raw: tf.Tensor, place: tf.Tensor, text: bytes) -> tf.Tensor:
    """Whether these bytes are at that place."""
    return tf.reduce_all(_piece(raw, place, len(text)) == tf.constant(list(text), tf.uint8))


def _piece(raw: tf.Tensor, place: tf.Tensor, width: int) -> tf.Tensor:
    piece = raw[place : place + width]
    return tf.ensure_shape(tf.pad(piece, [[0, width - tf.size(piece)]]), (width,))


def _among(value: tf.Tensor, choices: tuple[int, ...]) -> tf.Tensor:
    return tf.reduce_any(value == tf.constant(choices, tf.int64))

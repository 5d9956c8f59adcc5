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
_HEAD = 10
"""How many bytes of a segment are looked at. One with less left of the file holds no tags."""

_MOST = 10_000
"""How many segments are passed over at most, so that no file keeps a server busy. A PNG of 80 MB has as many."""

_FILL, _APP0, _APP1, _APP15, _COMMENT = 0xFFFF, 0xFFE0, 0xFFE1, 0xFFEF, 0xFFFE

_Segment = tuple[tf.Tensor, tf.Tensor]


def jpeg_tags(data: tf.Tensor) -> tf.Tensor:
    """A JPEG's first EXIF segment, as `orientation` reads it; empty when there is none."""
    return _tags(data, 2, _jpeg_segment, 4)


def png_tags(data: tf.Tensor) -> tf.Tensor:
    """A PNG's `eXIf` chunk, as `orientation` reads it; empty when there is none."""
    return _tags(data, 8, _png_chunk, 8)


def webp_tags(data: tf.Tensor) -> tf.Tensor:
    """A WebP's `EXIF` chunk, as `orientation` reads it; empty when there is none."""
    return _tags(data, 12, _webp_chunk, 8)


def orientation(tags: tf.Tensor) -> tf.Tensor:
    """What a TIFF file of tags says of the orientation.

    Args:
        tags: the file, a scalar string, with or without EXIF's prefix.

    Returns:
        1 to 8, int32; 1 when it says nothing, or nothing that can be made out, as viewers have it.
    """
    size = tf.strings.length(tags)
    prefix = tf.where(_bytes(tags, 0, len(_EXIF)) == _EXIF, len(_EXIF), 0)
    tags = tf.strings.substr(tags, tf.minimum(prefix, size), size)
    order = _bytes(tags, 0, 4)
    return tf.case(
        [
            (order == b"II*\0", lambda: _from_directory(tags, little=True)),
            (order == b"MM\0*", lambda: _from_directory(tags, little=False)),
        ],
        default=lambda: tf.constant(1),
    )


def upright(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turn pixels as they are stored into pixels as they are shown.

    Args:
        pixels: uint8 [height, width, channels].
        orientation: int32, 1 to 8.
    """

    def turned() -> tf.Tensor:
        transposed = tf.cond(orientation >= 5, lambda: _transposed(pixels), lambda: pixels)
        rows = tf.where(_among(orientation, (3, 4, 7, 8)), -1, 1)
        columns = tf.where(_among(orientation, (2, 3, 6, 7)), -1, 1)
        return transposed[::rows, ::columns]

    return tf.cond(orientation == 1, lambda: pixels, turned)


def _transposed(pixels: tf.Tensor) -> tf.Tensor:
    # Not tf.transpose: where that is of bytes, oneDNN writes to standard error that it leaves it to others.
    height, width = tf.unstack(tf.shape(pixels)[:2])
    places = tf.range(width)[:, None] + width * tf.range(height)
    return tf.gather(tf.reshape(pixels, (height * width, -1)), places)


def _tags(data: tf.Tensor, start: int, segment: Callable[[tf.Tensor], _Segment], skip: int) -> tf.Tensor:
    """The tags in a file, a scalar string; empty when there are none.

    Args:
        data: the file, a scalar string.
        start: where its first segment begins.
        segment: from a segment's first `_HEAD` bytes to whether it holds tags, and to its whole length; 0 for the last.
        skip: how far behind a segment's beginning its tags begin.
    """
    size = tf.strings.length(data)

    def segment_at(place: tf.Tensor) -> _Segment:
        return segment(tf.strings.substr(data, place, _HEAD))

    def walk(place: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        found, length = segment_at(place)
        # A damaged length may lead out of the file, or back.
        ahead = tf.where((length > 0) & (length < size - place), place + length, size)
        return tf.where(found, place, ahead), found

    place, found = tf.while_loop(
        lambda place, found: ~found & (place + _HEAD <= size),
        walk,
        (tf.constant(start), tf.constant(False)),
        parallel_iterations=1,
        maximum_iterations=_MOST,
    )

    def content() -> tf.Tensor:
        _, length = segment_at(place)
        return tf.strings.substr(data, tf.minimum(place + skip, size), tf.maximum(length - skip, 0))

    return tf.cond(found, content, lambda: tf.constant(b""))


def _jpeg_segment(head: tf.Tensor) -> _Segment:
    """A marker, which FF may precede as filling, and a length that counts itself.

    EXIF is in front of all that belongs to the picture: only applications' segments and comments are passed over.
    """
    words = _words(head, _HEAD // 2, little=False)
    marker = words[0]
    exif = (marker == _APP1) & (tf.strings.substr(head, 4, len(_EXIF)) == _EXIF)
    passed = ((marker >= _APP0) & (marker <= _APP15)) | (marker == _COMMENT)
    # Stray bytes between segments are passed over too, as decoders do.
    stray = (marker == _FILL) | (marker < 0xFF00)
    return exif, tf.where(passed, words[1] + 2, tf.where(stray, 1, 0))


def _png_chunk(head: tf.Tensor) -> _Segment:
    """Length, name, data, checksum."""
    length = tf.io.decode_raw(tf.strings.substr(head, 0, 4), tf.int32, little_endian=False)[0]
    return tf.strings.substr(head, 4, 4) == b"eXIf", tf.where(length < 0, 0, length + 12)


def _webp_chunk(head: tf.Tensor) -> _Segment:
    """Name, length, data, and one byte more if the length is odd."""
    length = tf.io.decode_raw(tf.strings.substr(head, 4, 4), tf.int32)[0]
    return tf.strings.substr(head, 0, 4) == b"EXIF", tf.where(length < 0, 0, length + length % 2 + 8)


def _from_directory(tags: tf.Tensor, *, little: bool) -> tf.Tensor:
    """The orientation of a TIFF file's first directory."""
    low, high = (0, 1) if little else (1, 0)
    size = tf.strings.length(tags)
    start = tf.io.decode_raw(_bytes(tags, 4, 4), tf.int32, little_endian=little)[0]
    start = tf.where((start >= 8) & (start < size), start, size)
    first = tf.minimum(start + 2, size)
    count = tf.minimum(_words(_bytes(tags, start, 2), 1, little=little)[0], (size - first) // _ENTRY)
    words = _words(tf.strings.substr(tags, first, count * _ENTRY), -1, little=little)
    entries = tf.reshape(words, (-1, _ENTRY // 2))
    tag, kind, counts, values = entries[:, 0], entries[:, 1], entries[:, 2:4], entries[:, 4:6]
    short = (kind == _SHORT) | ((kind == _LONG) & (values[:, high] == 0))
    value = tf.where(kind == _LONG, values[:, low], values[:, 0])
    ours = (tag == _TAG) & short & (counts[:, low] == 1) & (counts[:, high] == 0) & (value >= 1) & (value <= 8)
    return tf.concat([[1], tf.boolean_mask(value, ours)], axis=0)[-1]  # of several the last one, as Pillow has it


def _words(data: tf.Tensor, count: int, *, little: bool) -> tf.Tensor:
    """Whole numbers of two bytes, int32 [count]; all that there are if count is -1."""
    words = tf.cast(tf.io.decode_raw(data, tf.uint16, little_endian=little), tf.int32)
    return tf.ensure_shape(words, (count if count >= 0 else None,))


def _bytes(data: tf.Tensor, place: tf.Tensor | int, width: int) -> tf.Tensor:
    """This many bytes; those behind the end are 0."""
    inside = tf.strings.substr(data, tf.minimum(place, tf.strings.length(data)), width)
    return tf.strings.substr(tf.strings.join([inside, tf.constant(bytes(width))]), 0, width)


def _among(value: tf.Tensor, choices: tuple[int, ...]) -> tf.Tensor:
    return tf.reduce_any(value == choices)

"""From a picture file's bytes to a Keras network's input, by TensorFlow's operations alone.

Training, validation and the SavedModel run these same functions, so that what is served sees what was trained on.
"""

import io
from functools import partial

import cv2
import tensorflow as tf
from PIL import Image

from kubesight.dataset.images import decode_image, open_header, orientation, read_encoded
from kubesight.modelcard import StretchPreprocessing
from kubesight.models.keras.orientation import jpeg_orientation, png_orientation, upright, webp_orientation

_JPEG, _PNG, _WEBP, _BMP, _OTHER = range(5)
_PASSED = ("JPEG", "MPO", "PNG", "WEBP")
_HEAD = 40
_ANIMATED = 0x02  # of the flags in a WebP's VP8X chunk


def decode_picture(data: tf.Tensor) -> tf.Tensor:
    """A picture as it is shown: upright, over white where it is transparent, the first one of an animation.

    As `kubesight.dataset.images.read_image`, for JPEG, PNG, still WebP, GIF (what is transparent in one is black) and
    BMP of 24 bits. 16 bits become their upper 8.

    Args:
        data: the file, a scalar string.

    Returns:
        uint8 [height, width, 3], RGB.

    Raises:
        tf.errors.InvalidArgumentError: when it runs: another format, or not a whole picture.
    """
    kind = tf.case(
        [
            (_starts(data, b"\xff\xd8\xff"), lambda: tf.constant(_JPEG)),
            (_starts(data, b"\x89PNG\r\n\x1a\n"), lambda: tf.constant(_PNG)),
            (_starts(data, b"RIFF"), lambda: tf.constant(_WEBP)),
            (_starts(data, b"BM"), lambda: tf.constant(_BMP)),
        ],
        default=lambda: tf.constant(_OTHER),
    )
    decoders = {_JPEG: _jpeg, _PNG: _png, _WEBP: _webp, _BMP: _bmp, _OTHER: _other}
    pixels = tf.switch_case(kind, {number: partial(decode, data) for number, decode in decoders.items()})
    return tf.ensure_shape(pixels, (None, None, 3))


def to_pixels(data: tf.Tensor, preprocessing: StretchPreprocessing) -> tf.Tensor:
    """A network's input from a picture's bytes.

    Args:
        data: the file, a scalar string.
        preprocessing: the size, and the way of resizing.

    Returns:
        uint8 [size, size, 3], RGB: `decode_picture` stretched to this size whatever its aspect ratio was.

    Raises:
        tf.errors.InvalidArgumentError: when it runs: see `decode_picture`.
    """
    size = (preprocessing.size, preprocessing.size)
    # Without antialiasing every method but area would leave out pixels when a picture shrinks.
    resized = tf.image.resize(decode_picture(data), size, method=preprocessing.interpolation, antialias=True)
    return tf.saturate_cast(tf.round(resized), tf.uint8)


def encoded_picture(url: str) -> bytes:
    """A picture's file in a form that `decode_picture` can read: as it is, or decoded by kubesight and written as PNG.

    JPEG, PNG and still WebP are passed on as they are, but for the few whose orientation is not said in EXIF.

    Args:
        url: a path or a `file:` URI.

    Raises:
        DatasetError: the file cannot be read, is not a picture or one with too many pixels; it is named. A JPEG, PNG or
            WebP that is damaged behind its header is found when it is decoded.
        StorageError: the address is on another machine.
    """
    name, data = read_encoded(url)
    return data if _is_read(open_header(io.BytesIO(data), name)) else _as_png(data, name)


def repaired_picture(url: str) -> bytes:
    """A picture's file as PNG, decoded by kubesight, which reads some that TensorFlow does not.

    Args:
        url: a path or a `file:` URI.

    Raises:
        DatasetError: the picture cannot be decoded by it either; it is named, with the reason.
        StorageError: the address is on another machine.
    """
    name, data = read_encoded(url)
    return _as_png(data, name)


def _is_read(image: Image.Image) -> bool:
    if image.format not in _PASSED or (image.format == "WEBP" and getattr(image, "is_animated", False)):
        return False
    if "transparency" in image.info and image.mode != "P":  # a colour that counts as transparent
        return False
    return "exif" in image.info or orientation(image) == 1


def _as_png(data: bytes, name: str) -> bytes:
    pixels = cv2.cvtColor(decode_image(data, name=name), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def _jpeg(data: tf.Tensor) -> tf.Tensor:
    # The accurate transform is every other decoder's default, and as fast.
    pixels = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
    return upright(pixels, jpeg_orientation(data))


def _png(data: tf.Tensor) -> tf.Tensor:
    depth, colour = tf.strings.substr(_head(data), 24, 1), tf.strings.substr(_head(data), 25, 1)
    # TensorFlow does not scale grey of 1, 2 or 4 bits when it is to add an alpha channel.
    shallow = (colour == b"\0") & ((depth == b"\1") | (depth == b"\2") | (depth == b"\4"))
    pixels = tf.cond(
        shallow,
        lambda: tf.io.decode_png(data, channels=3),
        lambda: _over_white(tf.io.decode_png(data, channels=4)),
    )
    return upright(pixels, png_orientation(data))


def _webp(data: tf.Tensor) -> tf.Tensor:
    extended = tf.strings.substr(_head(data), 12, 4) == b"VP8X"
    flags = tf.io.decode_raw(tf.strings.substr(_head(data), 20, 1), tf.uint8)
    animated = extended & tf.reduce_any(tf.bitwise.bitwise_and(flags, tf.constant(_ANIMATED, tf.uint8)) > 0)
    # TensorFlow 2.21 writes beyond its memory when it decodes an animated WebP.
    with tf.control_dependencies([tf.debugging.Assert(~animated, ["an animated WebP cannot be decoded"])]):
        pixels = tf.io.decode_image(tf.identity(data), channels=0, expand_animations=False)
    opaque = tf.ones_like(pixels[..., :1]) * tf.constant(255, tf.uint8)
    return upright(_over_white(tf.concat([pixels, opaque], axis=2)[..., :4]), webp_orientation(data))


def _bmp(data: tf.Tensor) -> tf.Tensor:
    # TensorFlow takes indices into a palette for grey.
    plain = tf.strings.substr(_head(data), 28, 6) == b"\x18\0\0\0\0\0"  # bits a pixel, no compression
    with tf.control_dependencies([tf.debugging.Assert(plain, ["only BMP of 24 bits can be decoded"])]):
        return tf.io.decode_bmp(tf.identity(data), channels=3)


def _other(data: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_image(data, channels=3, expand_animations=False)


def _over_white(rgba: tf.Tensor) -> tf.Tensor:
    """RGBA laid over white, in whole numbers: at most 255 * 255 + 127, so 32 bits hold every step."""

    def mixed() -> tf.Tensor:
        colour, alpha = tf.cast(rgba[..., :3], tf.int32), tf.cast(rgba[..., 3:], tf.int32)
        return tf.cast((colour * alpha + (255 - alpha) * 255 + 127) // 255, tf.uint8)

    return tf.cond(tf.reduce_all(rgba[..., 3] == 255), lambda: rgba[..., :3], mixed)


def _head(data: tf.Tensor) -> tf.Tensor:
    """The file's first bytes, filled up with zeros: what TensorFlow says of a string too short is no text."""
    return tf.strings.join([tf.strings.substr(data, 0, _HEAD), tf.constant(bytes(_HEAD))])


def _starts(data: tf.Tensor, signature: bytes) -> tf.Tensor:
    return tf.strings.substr(data, 0, len(signature)) == signature

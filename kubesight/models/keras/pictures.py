"""From a picture file's bytes to a Keras network's input, by TensorFlow's operations alone.

Training, validation and the SavedModel run these same functions, so that what is served sees what was trained on.
"""

import io
from functools import partial

import cv2
import tensorflow as tf
from PIL import Image

from kubesight.dataset.images import decode_image, open_header, read_encoded
from kubesight.dataset.images import orientation as orientation_by_pillow
from kubesight.modelcard import StretchPreprocessing
from kubesight.models.keras.orientation import jpeg_tags, orientation, png_tags, upright, webp_tags

_PASSED = ("JPEG", "MPO", "PNG", "WEBP")
_Decoded = tuple[tf.Tensor, tf.Tensor]  # pixels as they are stored, and the EXIF tags beside them

_RATIOS = (1, 2, 4, 8)
_HEAD = 40
_ANIMATED = 0x02  # of the flags in a WebP's VP8X chunk


@tf.autograph.experimental.do_not_convert  # there is nothing to convert, and to find that out takes time
def decode_picture(data: tf.Tensor, *, min_size: int | None = None) -> tf.Tensor:
    """A picture as it is shown: upright, over white where it is transparent, the first one of an animation.

    As `kubesight.dataset.images.read_image`, for JPEG, PNG, still WebP, GIF (what is transparent in one is black) and
    BMP of 24 bits. 16 bits become their upper 8.

    Args:
        data: the file, a scalar string.
        min_size: let the codec shrink a large JPEG, by 2, 4 or 8, as far as its short side stays this many pixels or
            more.

    Returns:
        uint8 [height, width, 3], RGB.

    Raises:
        tf.errors.InvalidArgumentError: when it runs: another format, or not a whole picture.
    """
    signature = tf.strings.substr(data, 0, 2)
    kind = tf.reduce_sum(tf.where(signature == list(_DECODERS), tf.range(1, len(_DECODERS) + 1), 0))
    decoders = [_other, *_DECODERS.values()]
    pixels, tags = tf.switch_case(kind, [partial(decode, data, min_size) for decode in decoders])
    return tf.ensure_shape(upright(pixels, orientation(tags)), (None, None, 3))


@tf.autograph.experimental.do_not_convert
def to_pixels(data: tf.Tensor, preprocessing: StretchPreprocessing) -> tf.Tensor:
    """A network's input from a picture's bytes.

    Args:
        data: the file, a scalar string.
        preprocessing: the size, and the way of resizing.

    Returns:
        uint8 [size, size, 3], RGB: the whole picture, whatever its aspect ratio, decoded with `size` as `min_size`.

    Raises:
        tf.errors.InvalidArgumentError: when it runs: see `decode_picture`.
    """
    size = (preprocessing.size, preprocessing.size)
    # Without antialiasing every method but area would leave out pixels when a picture shrinks.
    pixels = decode_picture(data, min_size=preprocessing.size)
    resized = tf.image.resize(pixels, size, method=preprocessing.interpolation, antialias=True)
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
    return "exif" in image.info or orientation_by_pillow(image) == 1


def _as_png(data: bytes, name: str) -> bytes:
    pixels = cv2.cvtColor(decode_image(data, name=name), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def _jpeg(data: tf.Tensor, min_size: int | None) -> _Decoded:
    if min_size is None:
        return _decode_jpeg(data, 1), jpeg_tags(data)
    short_side = tf.reduce_min(tf.io.extract_jpeg_shape(data)[:2])
    # A side that the codec divides is rounded up.
    kind = tf.reduce_sum(tf.cast([-(-short_side // ratio) >= min_size for ratio in _RATIOS[1:]], tf.int32))
    pixels = tf.switch_case(kind, [partial(_decode_jpeg, data, ratio) for ratio in _RATIOS])
    return pixels, jpeg_tags(data)


def _decode_jpeg(data: tf.Tensor, ratio: int) -> tf.Tensor:
    # The accurate transform is every other decoder's default, and as fast.
    return tf.io.decode_jpeg(data, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")


def _png(data: tf.Tensor, _: int | None) -> _Decoded:
    depth, colour = tf.strings.substr(_head(data), 24, 1), tf.strings.substr(_head(data), 25, 1)
    # TensorFlow does not scale grey of 1, 2 or 4 bits when it is to add an alpha channel.
    shallow = (colour == b"\0") & ((depth == b"\1") | (depth == b"\2") | (depth == b"\4"))
    pixels = tf.cond(
        shallow,
        lambda: tf.io.decode_png(data, channels=3),
        lambda: _over_white(tf.io.decode_png(data, channels=4)),
    )
    return pixels, png_tags(data)


def _webp(data: tf.Tensor, _: int | None) -> _Decoded:
    extended = tf.strings.substr(_head(data), 12, 4) == b"VP8X"
    flags = tf.io.decode_raw(tf.strings.substr(_head(data), 20, 1), tf.uint8)
    animated = extended & tf.reduce_any(tf.bitwise.bitwise_and(flags, tf.constant(_ANIMATED, tf.uint8)) > 0)
    # TensorFlow 2.21 writes beyond its memory when it decodes an animated WebP.
    with tf.control_dependencies([tf.debugging.Assert(~animated, ["an animated WebP cannot be decoded"])]):
        pixels = tf.io.decode_image(tf.identity(data), channels=0, expand_animations=False)
    opaque = tf.ones_like(pixels[..., :1]) * tf.constant(255, tf.uint8)
    return _over_white(tf.concat([pixels, opaque], axis=2)[..., :4]), webp_tags(data)


def _bmp(data: tf.Tensor, _: int | None) -> _Decoded:
    # TensorFlow takes indices into a palette for grey.
    plain = tf.strings.substr(_head(data), 28, 6) == b"\x18\0\0\0\0\0"  # bits a pixel, no compression
    with tf.control_dependencies([tf.debugging.Assert(plain, ["only BMP of 24 bits can be decoded"])]):
        return tf.io.decode_bmp(tf.identity(data), channels=3), tf.constant(b"")


def _other(data: tf.Tensor, _: int | None) -> _Decoded:
    return tf.io.decode_image(data, channels=3, expand_animations=False), tf.constant(b"")


def _over_white(rgba: tf.Tensor) -> tf.Tensor:
    """RGBA laid over white, in whole numbers: at most 255 * 255 + 127, so 32 bits hold every step."""

    def mixed() -> tf.Tensor:
        colour, alpha = tf.cast(rgba[..., :3], tf.int32), tf.cast(rgba[..., 3:], tf.int32)
        return tf.cast((colour * alpha + (255 - alpha) * 255 + 127) // 255, tf.uint8)

    return tf.cond(tf.reduce_all(rgba[..., 3] == 255), lambda: rgba[..., :3], mixed)


def _head(data: tf.Tensor) -> tf.Tensor:
    """The file's first bytes, filled up with zeros: what TensorFlow says of a string too short is no text."""
    return tf.strings.join([tf.strings.substr(data, 0, _HEAD), tf.constant(bytes(_HEAD))])


_DECODERS = {b"\xff\xd8": _jpeg, b"\x89P": _png, b"RI": _webp, b"BM": _bmp}
"""By the first two bytes, which tell the formats apart; the decoders look at the rest."""

"""Pictures by TensorFlow's operations, against the reader that the rest of kubesight uses."""

import contextlib
import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from kubesight.dataset.images import decode_image, read_image
from kubesight.dataset.pixels import orient
from kubesight.errors import DatasetError
from kubesight.modelcard import StretchPreprocessing
from kubesight.models.keras.orientation import jpeg_tags, orientation
from kubesight.models.keras.pictures import decode_picture, encoded_picture, repaired_picture, to_pixels

decode = tf.function(decode_picture, input_signature=[tf.TensorSpec([], tf.string)])

NOISE = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
PICTURE = Image.fromarray(cv2.resize(NOISE, (70, 50), interpolation=cv2.INTER_CUBIC))


def transparent() -> Image.Image:
    picture = PICTURE.copy()
    picture.putalpha(Image.fromarray(np.linspace(0, 255, 70).astype(np.uint8)[None].repeat(50, 0)))
    return picture


def file(picture: Image.Image, form: str, **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def deep(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def animated(form: str) -> bytes:
    return file(PICTURE, form, save_all=True, append_images=[PICTURE.rotate(180)])


WIDE = np.asarray(PICTURE).astype(np.uint16) * 257 - 100
PASSED = {
    "jpeg": file(PICTURE, "JPEG", quality=90),
    "progressive": file(PICTURE, "JPEG", progressive=True),
    "grey jpeg": file(PICTURE.convert("L"), "JPEG"),
    "cmyk": file(PICTURE.convert("CMYK"), "JPEG"),
    "png": file(PICTURE, "PNG"),
    "grey": file(PICTURE.convert("L"), "PNG"),
    "grey with alpha": file(transparent().convert("LA"), "PNG"),
    "palette": file(PICTURE.convert("P"), "PNG"),
    "palette with a hole": file(PICTURE.convert("P"), "PNG", transparency=int(np.array(PICTURE.convert("P"))[9, 9])),
    "black and white": file(PICTURE.convert("1"), "PNG"),
    "two bits": file(PICTURE.convert("L").point(lambda value: value // 64 * 85), "PNG", bits=2),
    "rgba": file(transparent(), "PNG"),
    "grey of 16 bits": deep(WIDE[..., 0]),
    "colour of 16 bits": deep(WIDE),
    "webp": file(PICTURE, "WEBP"),
    "webp with alpha": file(transparent(), "WEBP", lossless=True),
}
ENCODED_ANEW = {
    "gif": file(PICTURE.convert("P"), "GIF"),
    "gif with a hole": file(PICTURE.convert("P"), "GIF", transparency=int(np.array(PICTURE.convert("P"))[9, 9])),
    "animated gif": animated("GIF"),
    "animated webp": animated("WEBP"),
    "bmp": file(PICTURE, "BMP"),
    "bmp with palette": file(PICTURE.convert("P"), "BMP"),
    "black and white bmp": file(PICTURE.convert("1"), "BMP"),
    "tiff": file(PICTURE, "TIFF"),
    "float tiff": file(Image.fromarray(NOISE[..., 0].astype(np.float32) / 255), "TIFF"),
    "grey with one transparent level": file(PICTURE.convert("L"), "PNG", transparency=90),
}


@pytest.mark.parametrize("name", PASSED | ENCODED_ANEW)
def test_every_kind_is_seen_as_read_image_sees_it(name, tmp_path) -> None:
    data = (PASSED | ENCODED_ANEW)[name]
    path = tmp_path / "picture"
    path.write_bytes(data)
    encoded = encoded_picture(str(path))
    assert (encoded == data) == (name in PASSED)
    seen, shown = decode(encoded).numpy(), read_image(str(path))
    assert seen.dtype == np.uint8
    assert seen.shape == shown.shape
    apart = np.abs(seen.astype(int) - shown).max()
    assert apart <= (1 if "16 bits" in name else 0)  # the upper 8 of grey's 16 bits are not its rounded share
    assert np.ptp(seen) > 100


@pytest.mark.parametrize("name", ["gif", "animated gif", "bmp"])
def test_the_graph_alone_decodes_some_that_are_encoded_anew(name) -> None:
    np.testing.assert_array_equal(decode(ENCODED_ANEW[name]).numpy(), decode_image(ENCODED_ANEW[name], name=name))


@pytest.mark.parametrize("name", ["animated webp", "bmp with palette", "black and white bmp", "tiff"])
def test_what_tensorflow_would_get_wrong_is_refused(name) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(ENCODED_ANEW[name])


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_all_orientations_in_all_formats(value, order) -> None:
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F], exif[0x0112] = "a maker whose name does not fit into its entry", value
    block = exif.tobytes()
    assert block[6:8] == {"<": b"II", ">": b"MM"}[order]
    for form, options in {"JPEG": {}, "PNG": {}, "WEBP": {"lossless": True}}.items():
        data = file(PICTURE, form, exif=block, **options)
        upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
        seen = decode(data).numpy()
        assert seen.shape == ((70, 50, 3) if value >= 5 else (50, 70, 3))
        np.testing.assert_array_equal(seen, decode_image(data, name=form))
        assert np.abs(seen.astype(int) - upright).max() <= (3 if form == "JPEG" else 0)


def segments(*parts: bytes) -> bytes:
    """A JPEG with these segments in front of all others."""
    return b"\xff\xd8" + b"".join(parts) + file(PICTURE, "JPEG")[2:]


def app1(content: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content


def tags(*entries: tuple, start: int = 8, magic: bytes = b"MM\0*") -> bytes:
    """A big-endian TIFF file of (tag, type, count, value); SHORT values stand left in their four bytes."""
    rows = [
        struct.pack(">HHI", *entry[:3]) + struct.pack(">HH" if entry[1] == 3 else ">I", *entry[3:]) for entry in entries
    ]
    return magic + struct.pack(">I", start) + bytes(start - 8) + struct.pack(">H", len(rows)) + b"".join(rows)


ROTATED = tags((0x0112, 3, 1, 6, 0))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (segments(), 1),
        (segments(app1(b"Exif\0\0" + ROTATED)), 6),
        (segments(app1(b"http://ns.adobe.com/xap/1.0/\0<x/>"), b"\xff\xfe\0\6Exif", app1(b"Exif\0\0" + ROTATED)), 6),
        (segments(b"\xff\xff", app1(b"Exif\0\0" + ROTATED)), 6),  # filling
        (segments(b"\0\1", app1(b"Exif\0\0" + ROTATED)), 6),  # stray bytes
        (segments(app1(b"Exif\0\0" + tags((0x0112, 4, 1, 8)))), 8),  # LONG
        (segments(app1(b"Exif\0\0" + tags((0x0112, 3, 1, 3, 0), (0x0112, 3, 1, 5, 0)))), 5),
        (segments(app1(b"Exif\0\0" + tags((0x0112, 3, 1, 6, 0), start=40))), 6),
        (segments(app1(b"Exif\0\0" + tags((0x0112, 3, 1, 9, 0)))), 1),  # no such orientation
        (segments(app1(b"Exif\0\0" + tags((0x0112, 3, 2, 6, 6)))), 1),  # two of them
        (segments(app1(b"Exif\0\0" + tags((0x0112, 2, 1, 0x36000000)))), 1),  # text
        (segments(app1(b"Exif\0\0" + tags((0x0112, 3, 1, 6, 0), magic=b"MM*\0"))), 1),
        (segments(app1(b"Exif\0\0" + ROTATED[:-6])), 1),  # cut off
        (segments(app1(b"Exif\0\0MM\0*" + b"\xff\xff\xff\xf0")), 1),  # a directory far behind the end
        (segments(app1(b"Exif\0\0")), 1),
        (segments(app1(b"something else: Exif\0\0" + ROTATED)), 1),  # not EXIF, though the bytes are there
        (file(PICTURE, "JPEG")[:-2] + app1(b"Exif\0\0" + ROTATED), 1),  # behind the picture
        (b"\xff\xd8", 1),
        (b"", 1),
    ],
    ids=range(19),
)  # fmt: skip
def test_orientation_is_where_exif_says_it_is(data, expected) -> None:
    assert int(orientation(jpeg_tags(tf.constant(data)))) == expected


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 5))
def test_damaged_exif_never_spoils_a_picture(junk, kept) -> None:
    seen = decode(segments(app1((b"Exif\0\0" + ROTATED)[: 6 * kept] + junk))).numpy()
    stored = decode_image(segments(), name="jpeg")
    assert any(np.array_equal(orient(stored, value), seen) for value in range(1, 9))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_files_are_pictures_or_invalid(data) -> None:
    whole = data.draw(st.sampled_from([*PASSED.values(), *ENCODED_ANEW.values()]))
    place = data.draw(st.one_of(st.integers(0, 60), st.integers(0, len(whole))))
    damaged = whole[:place] + data.draw(st.binary(max_size=8)) + whole[place + data.draw(st.integers(0, 8)) :]
    with contextlib.suppress(tf.errors.InvalidArgumentError):
        assert decode(damaged).shape[2] == 3


@pytest.mark.parametrize(
    ("size", "short_side"), [((500, 333), 42), ((333, 500), 42), ((153, 160), 20), ((152, 400), 38), ((15, 400), 15)]
)
def test_the_codec_shrinks_as_far_as_in_read_image(size, short_side, tmp_path) -> None:
    path = tmp_path / "large.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    PICTURE.resize(size).save(path, exif=exif, quality=90)
    seen = decode_picture(tf.constant(path.read_bytes()), min_size=20).numpy()
    np.testing.assert_array_equal(seen, read_image(str(path), min_size=20))
    assert min(seen.shape[:2]) == short_side


@pytest.mark.parametrize("interpolation", ["bilinear", "area"])
def test_pixels_are_the_whole_picture_without_aliasing(interpolation) -> None:
    board = np.indices((64, 96)).sum(axis=0) % 2 * np.uint8(255)  # every pixel differs from its neighbours
    board[:, 48:] = 200
    data = file(Image.fromarray(board.astype(np.uint8)), "PNG")
    pixels = to_pixels(tf.constant(data), StretchPreprocessing(size=8, interpolation=interpolation)).numpy()
    assert pixels.shape == (8, 8, 3)
    assert np.abs(pixels[:, :3].astype(int) - 128).max() <= 8  # the mean of black and white
    assert (pixels[:, 5:] == 200).all()  # the right half of the width


def test_errors_name_the_picture(tmp_path, monkeypatch) -> None:
    for name, content, reason in (
        ("notes.txt", b"no picture at all", "not a picture in a known format"),
        ("empty.jpg", b"", "empty"),
        ("cut.tif", ENCODED_ANEW["tiff"][:200], "truncated"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=reason) as caught:
            encoded_picture(str(path))
        assert str(path) in str(caught.value)
    with pytest.raises(DatasetError, match=r"missing\.png"):
        encoded_picture(str(tmp_path / "missing.png"))
    path = tmp_path / "cut.jpg"
    path.write_bytes(PASSED["jpeg"][:-300])
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(encoded_picture(str(path)))
    with pytest.raises(DatasetError, match=r"cut\.jpg"):
        repaired_picture(str(path))
    monkeypatch.setenv("KUBESIGHT_MAX_PIXELS", "3000")
    with pytest.raises(DatasetError, match="over 3,000 pixels"):
        encoded_picture(str(write(tmp_path / "large.png", PASSED["png"])))


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_orientation_that_is_not_exif_is_heeded_too(tmp_path) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    path = write(tmp_path / "xmp.jpg", segments(app1(b"http://ns.adobe.com/xap/1.0/\0" + xmp)))
    shown = read_image(str(path))
    assert shown.shape == (70, 50, 3)
    np.testing.assert_array_equal(decode(encoded_picture(str(path))).numpy(), shown)

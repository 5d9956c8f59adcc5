"""Picture reading against Pillow's own conversions, over formats, modes, orientations and damage."""

import contextlib
import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from kubesight.dataset import images
from kubesight.dataset.images import decode_image, read_details, read_image
from kubesight.errors import DatasetError, StorageError

WIDTH, HEIGHT = 48, 32


def colours() -> np.ndarray:
    """A picture without symmetry, smooth enough for JPEG."""
    x, y = np.meshgrid(np.linspace(0, 1, WIDTH), np.linspace(0, 1, HEIGHT))
    return (np.stack([x, y, x * y], -1) * 255).astype(np.uint8)


def write(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_exactly_once(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if suffix in ("jpg", "webp") else {}
    path = write(tmp_path / f"a.{suffix}", Image.fromarray(colours()), exif=exif, **options)
    with Image.open(path) as picture:
        truth = np.array(ImageOps.exif_transpose(picture).convert("RGB")).astype(int)
    found = read_image(str(path)).astype(int)
    assert found.shape == truth.shape == ((WIDTH, HEIGHT, 3) if orientation > 4 else (HEIGHT, WIDTH, 3))
    assert abs(found - truth).max() <= 3
    assert (found.shape[1], found.shape[0]) == (read_details(path).width, read_details(path).height)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB", "HSV"])
def test_modes_without_transparency_are_pillows(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(colours())
    image = Image.merge("LAB", image.split()) if mode == "LAB" else image.convert(mode)
    path = write(tmp_path / "a.tiff", image) if mode != "HSV" else write(tmp_path / "a.png", image.convert("RGB"))
    with Image.open(path) as picture:
        np.testing.assert_array_equal(read_image(str(path)), np.array(picture.convert("RGB")))


def test_a_cmyk_jpeg_is_shown_in_its_colours(tmp_path: Path) -> None:
    red = Image.new("RGB", (64, 64), (200, 30, 40))
    path = write(tmp_path / "a.jpg", red.convert("CMYK"), quality=95)
    for min_size in (None, 16):
        assert abs(read_image(str(path), min_size=min_size).astype(int).mean((0, 1)) - [200, 30, 40]).max() < 4
    assert read_image(str(path), min_size=16).shape == (16, 16, 3)


def test_grey_jpegs_become_three_equal_channels(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg", Image.fromarray(colours()).convert("L"))
    found = read_image(str(path))
    assert found.shape == (HEIGHT, WIDTH, 3)
    assert (found[..., 0] == found[..., 1]).all()
    assert (found[..., 0] == found[..., 2]).all()


def test_transparent_pixels_are_white_and_half_transparent_ones_blend(tmp_path: Path) -> None:
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 3] = [0, 255, 128]
    path = write(tmp_path / "a.png", Image.fromarray(pixels, "RGBA"))
    assert read_image(str(path))[0, :, 0].tolist() == pytest.approx([255, 0, 127], abs=1)
    grey = write(tmp_path / "b.png", Image.fromarray(pixels[..., 2:], "LA"))
    assert read_image(str(grey))[0, :, 0].tolist() == pytest.approx([255, 0, 127], abs=1)
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.putpixel((1, 0), 1)
    path = write(tmp_path / "c.png", palette, transparency=0)
    assert read_image(str(path)).tolist() == [[[255, 255, 255], [10, 20, 30]]]


def test_sixteen_bits_are_scaled_not_cut(tmp_path: Path) -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    for suffix in ("png", "tiff"):
        path = write(tmp_path / f"a.{suffix}", Image.fromarray(values))
        assert read_image(str(path))[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 100.0, 255.0]], np.float32), [0, 100, 255]),
        (np.array([[0.0, 25700.0, 65535.0]], np.float32), [0, 100, 255]),
        (np.array([[-1.0, 0.0, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[0, 257, 65535]], np.int32), [0, 1, 255]),
        (np.array([[0, 1 << 30, 1 << 31]], np.int64).astype(np.float32), [0, 128, 255]),
        (np.array([[7.0, 7.0]], np.float32) * 1e6, [0, 0]),
    ],
)
def test_float_and_wide_integer_greyscale_have_stated_ranges(
    tmp_path: Path, values: np.ndarray, expected: list[int]
) -> None:
    path = write(tmp_path / "a.tiff", Image.fromarray(values))
    assert read_image(str(path))[0, :, 0].tolist() == pytest.approx(expected, abs=1)


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tiff", Image.fromarray(np.array([[0.0, np.nan]], np.float32)))
    with pytest.raises(DatasetError, match="no numbers"):
        read_image(str(path))


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_the_first_frame_of_many_counts(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    options = {"lossless": True} if suffix == "webp" else {}
    path = tmp_path / f"a.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    assert read_image(str(path))[4, 4].tolist() == [255, 0, 0]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "gif"])
def test_truncated_files_are_refused_by_name(tmp_path: Path, suffix: str) -> None:
    generator = np.random.default_rng(0)
    path = write(tmp_path / f"cut.{suffix}", Image.fromarray(generator.integers(0, 256, (64, 64, 3), np.uint8)))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DatasetError, match=rf"cut\.{suffix}.*damaged"):
        read_image(str(path))


def test_a_jpeg_with_stray_bytes_is_still_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg", Image.fromarray(colours()))
    data = path.read_bytes()
    path.write_bytes(data[:20] + b"\x00\x00\x00" + data[20:])  # behind the JFIF segment
    assert read_image(str(path)).shape == (HEIGHT, WIDTH, 3)


def test_bombs_are_refused_before_they_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "bomb.png", Image.new("L", (20_000, 10_000)))
    assert path.stat().st_size < 300_000
    for read in (lambda: read_image(str(path)), lambda: read_details(path)):
        with pytest.raises(DatasetError, match=r"178,956,970 pixels.*KUBESIGHT_MAX_PIXELS"):
            read()
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    with pytest.raises(DatasetError, match="over 100 pixels"):
        decode_image(write(tmp_path / "a.png", Image.new("L", (20, 20))).read_bytes(), name="a")


def test_files_that_are_no_pictures_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("no picture")
    for name, words in (("empty.jpg", "empty"), ("text.png", "known format"), ("missing.png", "(?i)no such file")):
        with pytest.raises(DatasetError, match=words) as caught:
            read_image(str(tmp_path / name))
        assert name in str(caught.value)
    for name, words in (("empty.jpg", "empty"), ("text.png", "known format"), ("missing.png", "(?i)no such file")):
        with pytest.raises(DatasetError, match=words) as caught:
            read_details(tmp_path / name)
        assert name in str(caught.value)
    with pytest.raises(StorageError, match="s3://"):
        read_image("s3://bucket/a.jpg")


def test_an_extension_that_lies_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(colours()).save(path, format="PNG")
    np.testing.assert_array_equal(read_image(path.as_uri()), colours())
    assert read_details(path).format == "png"


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 400), st.integers(8, 400), st.integers(1, 300), st.sampled_from([1, 6]))
def test_reduced_decoding_leaves_enough_pixels(width: int, height: int, min_size: int, orientation: int) -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (width, height), (10, 200, 90)).save(buffer, "JPEG", exif=exif)
    found = decode_image(buffer.getvalue(), name="a", min_size=min_size)
    assert min(found.shape[:2]) >= min(min_size, width, height)
    turned = found.shape[:2][::-1] if orientation == 6 else found.shape[:2]
    eighths = [(-(-height * k // 8), -(-width * k // 8)) for k in range(1, 9)]
    fitting = [size for size in eighths if min(size) >= min(min_size, width, height)]
    assert turned == fitting[0]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_bytes_give_a_picture_or_a_dataset_error(data: st.DataObject) -> None:
    buffer = io.BytesIO()
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]))
    Image.fromarray(colours()).save(buffer, kind)
    warnings.simplefilter("ignore")
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    found = None
    with contextlib.suppress(DatasetError):
        found = decode_image(bytes(content), name="damaged")
    assert found is None or (found.ndim == 3 and found.dtype == np.uint8)


def test_real_photos_match_pillow(real_data: Path) -> None:
    for path in sorted((real_data / "grocery10" / "val").rglob("*.jpg"))[::7]:
        with Image.open(path) as picture:
            truth = np.array(ImageOps.exif_transpose(picture).convert("RGB")).astype(int)
        assert abs(read_image(str(path)).astype(int) - truth).max() <= 2

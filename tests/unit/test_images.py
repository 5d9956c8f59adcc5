"""Picture reading against Pillow's own conversions, over formats, modes, orientations and damage."""

import contextlib
import io
import struct
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps

from kubesight.dataset import images
from kubesight.dataset.images import decode_image, read_details, read_image
from kubesight.errors import DatasetError, StorageError

WIDTH, HEIGHT = 48, 32


def colours() -> np.ndarray:
    """A picture without symmetry, smooth enough for JPEG."""
    x, y = np.meshgrid(np.linspace(0, 1, WIDTH), np.linspace(0, 1, HEIGHT))
    return (np.stack([x, y, x * y], -1) * 255).astype(np.uint8)


def tiff(values: np.ndarray, tags: dict[int, int]) -> bytes:
    """The smallest greyscale TIFF of [1, width] values; `tags` override what is written of them."""
    order = ">" if values.dtype.byteorder == ">" else "<"
    fields = {256: values.shape[1], 257: 1, 258: values.itemsize * 8, 259: 1, 262: 1, 273: 0, 277: 1, 278: 1}
    fields |= {279: values.nbytes, **tags}
    fields[273] = 8 + 2 + 12 * len(fields) + 4
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, fields[tag]) for tag in sorted(fields))
    head = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(f"{order}IH", 8, len(fields))
    return head + entries + bytes(4) + values.tobytes()


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


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_orientation_of_xmp_and_nonsense_in_exif(tmp_path: Path) -> None:
    xmp = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    path = write(tmp_path / "xmp.jpg", Image.fromarray(colours()), xmp=xmp)
    assert read_image(str(path)).shape == (WIDTH, HEIGHT, 3)
    exif = Image.Exif()
    exif[0x0112] = 9
    path = write(tmp_path / "nine.jpg", Image.fromarray(colours()), exif=exif)
    assert read_image(str(path)).shape == (HEIGHT, WIDTH, 3)
    path = write(tmp_path / "broken.jpg", Image.fromarray(colours()), exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert read_image(str(path)).shape == (HEIGHT, WIDTH, 3)
    assert read_details(path).width == WIDTH


def test_a_png_may_say_its_orientation_behind_the_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = write(tmp_path / "a.png", Image.fromarray(colours()), exif=exif)
    data = path.read_bytes()
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    late = data[:start] + data[end:-12] + data[start:end] + data[-12:]
    path.write_bytes(late)
    assert read_details(path).width == HEIGHT
    np.testing.assert_array_equal(read_image(str(path)), np.rot90(colours(), -1))


def test_a_header_is_read_without_the_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[object] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: loaded.append(image))
    for suffix in ("jpg", "png", "tiff", "gif", "bmp"):
        path = write(tmp_path / f"a.{suffix}", Image.fromarray(colours()))
        details = read_details(path)
        assert (details.width, details.height, details.bytes) == (WIDTH, HEIGHT, path.stat().st_size)
    assert not loaded
    with Image.open(tmp_path / "a.png") as picture:
        picture.getexif()
    assert len(loaded) == 1  # Pillow's own way, which would have been seen
    assert read_details(tmp_path / "a.jpg").format == "jpeg"


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB", "HSV"])
def test_modes_without_transparency_are_pillows(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(colours())
    image = Image.merge("LAB", image.split()) if mode == "LAB" else image.convert(mode)
    path = write(tmp_path / "a.tiff", image) if mode != "HSV" else write(tmp_path / "a.png", image.convert("RGB"))
    with Image.open(path) as picture:
        np.testing.assert_array_equal(read_image(str(path)), np.array(picture.convert("RGB")))


def test_adobes_inverted_cmyk_and_ycck_are_read_as_opencv_does(tmp_path: Path) -> None:
    cmyk = Image.fromarray(np.dstack([colours(), colours()[::-1, :, 0] // 3]), "CMYK")
    path = write(tmp_path / "a.jpg", cmyk, quality=95)
    data = path.read_bytes()
    assert b"Adobe" in data
    ycck = bytearray(data)
    ycck[data.index(b"Adobe") + 11] = 2  # the transform byte: the same numbers now stand for YCCK
    for content in (data, bytes(ycck)):
        truth = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
        assert abs(decode_image(content, name="a").astype(int) - truth).max() <= 4


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
    ("values", "tags", "expected"),
    [
        (np.array([[0, 65535]], np.uint16), {262: 0}, [255, 0]),  # white is zero
        (np.array([[0, 257, 65535]], np.uint16).astype(">u2"), {}, [0, 1, 255]),
        (np.array([[-32768, 0, 32767]], np.int16), {339: 2}, [0, 128, 255]),
    ],
)
def test_tiff_tags_say_what_sixteen_bits_mean(
    tmp_path: Path, values: np.ndarray, tags: dict[int, int], expected: list[int]
) -> None:
    path = tmp_path / "a.tiff"
    path.write_bytes(tiff(values, tags))
    assert read_image(str(path))[0, :, 0].tolist() == expected


def test_twelve_bits_fill_the_range(tmp_path: Path) -> None:
    path = tmp_path / "a.tiff"
    path.write_bytes(tiff(np.frombuffer(bytes([0xFF, 0xF0, 0x00]), np.uint8)[None], {256: 2, 258: 12}))
    assert read_image(str(path))[0, :, 0].tolist() == [255, 0]
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 3 1 4095\n" + np.array([0, 2048, 4095], ">u2").tobytes())
    assert read_image(str(path))[0, :, 0].tolist() == [0, 128, 255]


def test_a_transparent_grey_of_sixteen_bits_is_white(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", Image.fromarray(np.array([[0, 300, 65535]], np.uint16)), transparency=300)
    assert read_image(str(path))[0, :, 0].tolist() == [0, 255, 255]


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
    with pytest.raises(DatasetError, match=rf"cut\.{suffix}.*(truncated|damaged|decoded)"):
        read_image(str(path))


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize("min_size", [None, 16])
@pytest.mark.parametrize("ending", [b"", b"\xff\xd9"])
def test_a_truncated_jpeg_is_said_to_be(options: dict, min_size: int | None, ending: bytes) -> None:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG", **options)
    whole = buffer.getvalue()
    with pytest.raises(DatasetError, match=r"^photo\.jpg: the picture file is truncated"):
        decode_image(whole[: len(whole) * 2 // 3] + ending, name="photo.jpg", min_size=min_size)
    with pytest.raises(DatasetError, match=r"^photo\.jpg: the picture file is truncated"):
        decode_image(whole[:20], name="photo.jpg")


def test_a_jpeg_with_stray_bytes_is_still_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg", Image.fromarray(colours()))
    data = path.read_bytes()
    path.write_bytes(data[:20] + b"\x00\x00\x00" + data[20:])  # behind the JFIF segment
    assert read_image(str(path)).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.filterwarnings("ignore:Image size")
def test_bombs_are_refused_before_they_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "bomb.png", Image.new("L", (20_000, 20_000)))
    assert path.stat().st_size < 600_000
    for read in (lambda: read_image(str(path)), lambda: read_details(path)):
        with pytest.raises(DatasetError, match=r"268,435,456 pixels.*KUBESIGHT_MAX_PIXELS"):
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


def test_formats_that_run_programs_or_cannot_be_read_are_refused() -> None:
    buffer = io.BytesIO()
    Image.fromarray(colours()).save(buffer, "EPS")
    with pytest.raises(DatasetError, match=r"a\.eps: not a picture in a known format"):
        decode_image(buffer.getvalue(), name="a.eps")
    with pytest.raises(DatasetError, match=r"HEIF.*JPEG"):
        decode_image(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", name="a.jpg")


@pytest.mark.parametrize("text", ["many", "0", "-5", ""])
def test_the_limit_in_the_environment_is_checked(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("KUBESIGHT_MAX_PIXELS", text)
    with pytest.raises(DatasetError, match=f"KUBESIGHT_MAX_PIXELS: '{text}' is not a positive whole number"):
        images.max_pixels()


def test_the_environment_sets_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.png", Image.fromarray(colours()))
    monkeypatch.setenv("KUBESIGHT_MAX_PIXELS", str(WIDTH * HEIGHT))
    assert read_image(str(path)).shape == (HEIGHT, WIDTH, 3)
    monkeypatch.setenv("KUBESIGHT_MAX_PIXELS", str(WIDTH * HEIGHT // 3))
    with pytest.raises(DatasetError, match=r"over 512 pixels"):
        read_image(str(path))


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
    scaled = [(-(-height // scale), -(-width // scale)) for scale in (8, 4, 2, 1)]
    assert turned == next(size for size in scaled if min(size) >= min(min_size, width, height))


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


def test_real_photos_look_the_same_when_the_codec_shrinks_them(real_data: Path) -> None:
    paths = sorted((real_data / "facade_coco").rglob("*.jpg"))[:6]
    assert paths
    for path in paths:
        full, small = read_image(str(path)), read_image(str(path), min_size=150)
        assert 150 <= min(small.shape[:2]) < 300
        truth = cv2.resize(full, small.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert abs(small.astype(int) - truth).mean() < 2

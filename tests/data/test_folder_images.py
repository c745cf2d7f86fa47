"""Images in a folder: lazily decoded, labelled by sub-folder, converted on request."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from geovq.config import DataConfig
from geovq.data import load
from geovq.errors import DataError


def write_digits(folder, pixels, write_png, labels=None):
    for index, image in enumerate(pixels):
        below = folder if labels is None else folder / f"digit {labels[index]}"
        write_png(below / f"{index:03d}.png", image)
    return folder


def load_folder(folder, **options):
    return load(DataConfig(f"folder:{folder}", **options))


def test_loose_images(tmp_path, digit_pixels, write_png):
    splits = load_folder(write_digits(tmp_path / "digits", digit_pixels[:40], write_png))
    assert splits.name == "folder:digits"
    assert splits.image_shape == (1, 8, 8)
    assert (splits.n_classes, splits.train.labels) == (0, None)
    assert [len(s) for s in (splits.train, splits.validation, splits.test)] == [32, 4, 4]
    images = splits.test.images(slice(None))
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images[:, 0], digit_pixels[splits.test.rows] / np.float32(255))
    np.testing.assert_array_equal(splits.test.images(np.array([2, 0])), images[[2, 0]])


def test_sub_folders_are_labels(tmp_path, digit_pixels, digit_labels, write_png):
    splits = load_folder(write_digits(tmp_path, digit_pixels[:100], write_png, digit_labels[:100]))
    assert splits.n_classes == 10
    in_order = np.lexsort((np.arange(100), digit_labels[:100]))  # by class, then by name
    np.testing.assert_array_equal(splits.train.labels, digit_labels[in_order][splits.train.rows])
    np.testing.assert_array_equal(
        splits.train.images(slice(None))[:, 0], digit_pixels[in_order][splits.train.rows] / np.float32(255)
    )
    assert np.bincount(splits.test.labels).tolist() == [1] * 10


@pytest.mark.parametrize("validation", ["validation", "val"])
def test_parts_are_used_where_they_are_there(tmp_path, digit_pixels, digit_labels, write_png, validation):
    for part, rows in (("train", slice(0, 60)), (validation, slice(60, 80)), ("test", slice(80, 110))):
        write_digits(tmp_path / part, digit_pixels[rows], write_png, digit_labels[rows])
    splits = load_folder(tmp_path)
    assert [len(s) for s in (splits.train, splits.validation, splits.test)] == [60, 20, 30]
    np.testing.assert_array_equal(np.sort(splits.test.labels), np.sort(digit_labels[80:110]))
    found = {image.tobytes() for image in splits.validation.images(slice(None))}
    assert found == {image.tobytes() for image in digit_pixels[60:80] / np.float32(255)}


def test_validation_is_set_aside_from_training(tmp_path, digit_pixels, write_png):
    write_digits(tmp_path / "train", digit_pixels[:60], write_png)
    write_digits(tmp_path / "test", digit_pixels[60:70], write_png)
    splits = load_folder(tmp_path)
    assert [len(s) for s in (splits.train, splits.validation, splits.test)] == [54, 6, 10]
    assert splits.n_classes == 0


def test_other_and_hidden_files_are_left_out(tmp_path, digit_pixels, write_png):
    write_digits(tmp_path, digit_pixels[:20], write_png)
    (tmp_path / "README.txt").write_text("digits")
    (tmp_path / "._000.png").write_bytes(b"what macOS leaves beside a file")
    write_png(tmp_path / ".cache" / "thumbnail.png", digit_pixels[0, :4])
    splits = load_folder(tmp_path)
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 20


def test_links_are_followed_but_not_in_circles(tmp_path, digit_pixels, digit_labels, write_png):
    write_digits(tmp_path / "elsewhere", digit_pixels[:40], write_png, digit_labels[:40] % 2)
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("digit 0", "digit 1"):
        (folder / name).symlink_to(tmp_path / "elsewhere" / name)
    (folder / "digit 0" / "again").symlink_to(folder)
    splits = load_folder(folder)
    assert (splits.n_classes, len(splits.train) + len(splits.validation) + len(splits.test)) == (2, 40)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "TIFF", "webp", "jpg", "JPEG"])
def test_formats(tmp_path, suffix):
    y, x = np.mgrid[0:24, 0:32]
    smooth = np.stack([x * 8, y * 10, 255 - x * 8], axis=-1).astype(np.uint8)
    options = {"webp": {"lossless": True}, "jpg": {"quality": 95}, "JPEG": {"quality": 95}}.get(suffix, {})
    for index in range(12):
        Image.fromarray(smooth).save(tmp_path / f"{index}.{suffix}", **options)
    splits = load_folder(tmp_path)
    assert splits.image_shape == (3, 24, 32)
    tolerance = 12 / 255 if suffix.lower().startswith("j") else 0
    np.testing.assert_allclose(
        splits.test.images(slice(None))[0], smooth.transpose(2, 0, 1) / np.float32(255), atol=tolerance
    )


def fill(folder, image, count=12, **options):
    for index in range(count):
        image.save(folder / f"{index:02d}.png", **options)


def first(splits):
    return splits.train.images(slice(0, 1))[0]


def test_modes_and_their_channels(tmp_path):
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4)
    for mode, channels in (("L", 1), ("1", 1), ("P", 3), ("RGB", 3), ("RGBA", 4), ("LA", 4)):
        folder = tmp_path / mode
        folder.mkdir()
        fill(folder, grey.convert(mode))
        splits = load_folder(folder)
        assert splits.image_shape == (channels, 8, 8), mode
        expected = grey.convert(mode).convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])
        values = np.asarray(expected, dtype=np.float32).reshape(8, 8, channels).transpose(2, 0, 1) / 255
        np.testing.assert_array_equal(first(splits), values)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_converts(tmp_path, channels):
    fill(tmp_path, Image.new("RGB", (8, 8), (255, 0, 0)), count=6)
    Image.new("L", (8, 8), 76).save(tmp_path / "grey.png")
    fill(tmp_path / ".", Image.new("RGB", (8, 8), (255, 0, 0)), count=11)
    splits = load_folder(tmp_path, channels=channels)
    assert splits.image_shape == (channels, 8, 8)
    expected = [76] if channels == 1 else [255, 0, 0]
    np.testing.assert_array_equal(first(splits)[:, 0, 0] * 255, np.float32(expected))


@pytest.mark.parametrize("channels", [1, 3])
def test_transparency_is_laid_on_white(tmp_path, channels):
    fill(tmp_path, Image.new("RGBA", (8, 8), (0, 0, 0, 0)))
    np.testing.assert_array_equal(first(load_folder(tmp_path, channels=channels)), 1)


def test_a_palette_with_a_transparent_colour_has_four_channels(tmp_path):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    fill(tmp_path, image, transparency=1)
    splits = load_folder(tmp_path)
    np.testing.assert_array_equal(first(splits)[:, 0, 0], [1, 0, 0, 0])


def test_image_size_cuts_the_centre_square(tmp_path):
    pixels = np.zeros((8, 24), dtype=np.uint8)
    pixels[:, 8:16] = 200
    fill(tmp_path, Image.fromarray(pixels))
    splits = load_folder(tmp_path, image_size=8)
    assert splits.image_shape == (1, 8, 8)
    np.testing.assert_array_equal(first(splits) * 255, np.float32(200))


def test_shrinking_takes_the_mean_of_an_area(tmp_path, digit_pixels):
    fill(tmp_path, Image.fromarray(digit_pixels[0]))
    means = digit_pixels[0].reshape(4, 2, 4, 2).mean(axis=(1, 3))
    shrunk = first(load_folder(tmp_path, image_size=4))[0] * 255
    np.testing.assert_allclose(shrunk, means, atol=1)  # Pillow rounds once along each axis


def test_enlarging_keeps_a_constant_image(tmp_path):
    fill(tmp_path, Image.new("RGB", (5, 7), (10, 20, 30)))
    splits = load_folder(tmp_path, image_size=16)
    assert splits.image_shape == (3, 16, 16)
    np.testing.assert_array_equal(first(splits)[:, 3, 9] * 255, np.float32([10, 20, 30]))


def test_sizes_may_differ_when_a_size_is_asked_for(tmp_path, write_png):
    for index in range(12):
        write_png(tmp_path / f"{index}.png", np.full((5 + index, 20 - index), index, dtype=np.uint8))
    splits = load_folder(tmp_path, image_size=6)
    assert splits.train.images(slice(None)).shape == (len(splits.train), 1, 6, 6)


def test_differing_sizes_name_both_files_and_the_way_out(tmp_path, digit_pixels, write_png):
    write_digits(tmp_path, digit_pixels[:20], write_png)
    write_png(tmp_path / "wide.png", digit_pixels[0, :6])
    message = r"000\.png is 8x8 and .*wide\.png is 6x8 .*--set data\.image_size=6"
    with pytest.raises(DataError, match=message):
        load_folder(tmp_path)


def test_differing_channels_name_both_files_and_the_way_out(tmp_path, digit_pixels, write_png):
    write_digits(tmp_path, digit_pixels[:20], write_png)
    write_png(tmp_path / "colour.png", np.zeros((8, 8, 3), dtype=np.uint8))
    message = r"000\.png has 1 channels and .*colour\.png has 3; .*--set data\.channels=3"
    with pytest.raises(DataError, match=message):
        load_folder(tmp_path)


def test_photographs_are_turned_the_right_way_up(tmp_path):
    y, x = np.mgrid[0:16, 0:32]
    picture = Image.fromarray((x * 4 + y).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees to look at it
    for index in range(12):
        picture.save(tmp_path / f"{index:02d}.jpg", quality=95, exif=exif)
    splits = load_folder(tmp_path)
    assert splits.image_shape == (1, 32, 16)
    upright = np.rot90(np.asarray(picture), k=-1)
    np.testing.assert_allclose(first(splits)[0], upright / np.float32(255), atol=4 / 255)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_more_than_8_bits_are_refused(tmp_path, write_png, dtype):
    for index in range(12):
        write_png(tmp_path / f"{index}.tif", np.zeros((8, 8), dtype=dtype))
    with pytest.raises(DataError, match=r"0\.tif: pixels are of Pillow's mode .*; expected 8 bits a channel"):
        load_folder(tmp_path)


def test_a_damaged_file_is_named_when_the_folder_is_loaded(tmp_path, digit_pixels, write_png):
    write_digits(tmp_path, digit_pixels[:20], write_png)
    (tmp_path / "007.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"007\.png: not a readable image"):
        load_folder(tmp_path)


def test_files_are_decoded_when_asked_for(tmp_path, digit_pixels, write_png):
    splits = load_folder(write_digits(tmp_path, digit_pixels[:20], write_png))
    path = tmp_path / f"{splits.train.rows[3]:03d}.png"
    original = path.read_bytes()
    for content, match in (
        (original[: len(original) // 2], "not a readable image"),
        (write_png(path, digit_pixels[0, :5]).read_bytes(), "5x8 now; expected 8x8"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"{path.name}: .*{match}"):
            splits.train.images(slice(None))
    path.unlink()
    with pytest.raises(DataError, match=f"{path.name}: no such file"):
        splits.train.images(slice(3, 4))
    assert splits.train.images(slice(0, 3)).shape == (3, 1, 8, 8)


def png(width, height):
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(99))), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("side", [8_193, 10_000, 20_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused_without_decoding(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(png(side, side))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"bomb\.png: .*pixels; expected at most 67,108,864"):
            load_folder(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_images(tmp_path, write_png):
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    for index in range(200):
        write_png(tmp_path / f"{index:03d}.png", noise)
    load_folder(tmp_path)  # loads Pillow's plugins
    tracemalloc.start()
    try:
        splits = load_folder(tmp_path)
        batch = splits.train.images(slice(0, 4))
        assert tracemalloc.get_traced_memory()[1] < 2 * batch.nbytes < 200 * noise.nbytes / 4
    finally:
        tracemalloc.stop()


def test_other_formats_are_not_tried(tmp_path):
    image = Image.new("RGB", (8, 8))
    for index in range(12):
        image.save(tmp_path / f"{index}.png", format="EPS" if index == 11 else "PNG")
    with pytest.raises(DataError, match=r"11\.png: not a readable image"):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    "names, match",
    [
        ([], "no images; expected files ending in .png"),
        (["a.png"], "1 training images; expected at least 10"),
        (["test/a.png"], "test/ without train/"),
        (["train/a.png", "loose.png"], r"loose\.png: lies beside train/"),
        (["train/a.png", "extra/b.png"], r"extra/b\.png: lies beside train/"),
        (["cats/a.png", "loose.png"], r"loose\.png: lies beside the sub-folder 'cats'"),
        (["train/cats/a.png", "train/b.png"], r"train/b\.png: lies beside the sub-folder 'cats'"),
        (["train/cats/a.png", "test/dogs/b.png"], r"b\.png: its class 'dogs' has no training images"),
        (["train/cats/a.png", "test/b.png"], r"b\.png: its class '' has no training images"),
    ],
)
def test_layouts_that_make_no_sense_are_refused(tmp_path, write_png, names, match):
    for name in names:
        write_png(tmp_path / name, np.zeros((8, 8), dtype=np.uint8))
    with pytest.raises(DataError, match=match):
        load_folder(tmp_path)


def test_the_fingerprint_follows_names_content_and_conversion(tmp_path, digit_pixels, write_png):
    folder = write_digits(tmp_path / "a", digit_pixels[:20], write_png)
    same = write_digits(tmp_path / "b", digit_pixels[:20], write_png)
    prints = [load_folder(folder).fingerprint, load_folder(folder, image_size=4).fingerprint]
    assert load_folder(same).fingerprint == prints[0]
    (folder / "019.png").rename(folder / "020.png")
    prints.append(load_folder(folder).fingerprint)
    write_png(folder / "020.png", digit_pixels[500])
    prints.append(load_folder(folder).fingerprint)
    assert len(set(prints)) == 4


@pytest.fixture(scope="session")
def sound_files(tmp_path_factory, digit_pixels):
    """The same digit in every format, and a folder in which to damage it."""
    folder = tmp_path_factory.mktemp("damaged")
    contents = {}
    for suffix in ("png", "jpg", "bmp", "webp", "tif"):
        Image.fromarray(digit_pixels[0]).convert("RGB").save(folder / f"0.{suffix}")
        contents[suffix] = (folder / f"0.{suffix}").read_bytes()
        (folder / f"0.{suffix}").unlink()
    return folder, contents


@settings(deadline=None)
@given(st.data())
def test_damaged_images_are_refused_or_decoded_and_never_crash(sound_files, data):
    folder, contents = sound_files
    suffix = data.draw(st.sampled_from(sorted(contents)))
    content = bytearray(contents[suffix])
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(1, len(content)))]
    for index in range(10):
        (folder / f"{index}.png").write_bytes(content)
    try:
        splits = load_folder(folder, image_size=8, channels=3)
        images = splits.train.images(slice(0, 1))
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert images.shape == (1, 3, 8, 8)
        assert np.isfinite(images).all()

import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tests.paths import REPOSITORY
from trainables.images.decode import DRAFT_SIDE, LFS_POINTER, Unreadable, decode, header, white_level

RNG = np.random.default_rng(0)
PHOTO = cv2.resize(RNG.integers(0, 256, (6, 9, 3), np.uint8), (90, 60), interpolation=cv2.INTER_CUBIC)


def saved(folder, name, pixels=PHOTO, mode=None, **options):
    image = Image.fromarray(pixels)
    image = image.convert(mode) if mode else image
    image.save(folder / name, **options)
    return folder / name


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.ppm", "a.webp", "a.jp2"])
def test_lossless_formats_decode_to_their_pixels(tmp_path, name):
    options = {"lossless": True} if name.endswith(("webp",)) else {}
    path = saved(tmp_path, name, **options)
    assert np.array_equal(decode(path), PHOTO)
    assert header(path) == (90, 60, False)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_in_pillow(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, f"a.{suffix}", exif=exif)
    with Image.open(path) as image:
        image.load()
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert np.array_equal(decode(path), expected)
    assert header(path)[:2] == expected.shape[1::-1]


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK"])
def test_other_color_modes_become_rgb(tmp_path, mode):
    path = saved(tmp_path, "a.tif" if mode == "CMYK" else "a.png", mode=mode)
    pixels = decode(path)
    assert pixels.shape == (60, 90, 3)
    assert pixels.dtype == np.uint8
    with Image.open(path) as image:
        assert np.array_equal(pixels, np.asarray(image.convert("RGB")))


def test_transparent_pixels_are_white(tmp_path):
    alpha = np.full((60, 90, 1), 255, np.uint8)
    alpha[:30] = 0
    path = saved(tmp_path, "a.png", np.concatenate([PHOTO, alpha], axis=2))
    pixels = decode(path)
    assert (pixels[:30] == 255).all()
    assert np.array_equal(pixels[30:], PHOTO[30:])


def test_transparent_palette_entry_is_white(tmp_path):
    image = Image.fromarray(np.repeat(np.array([[0], [1]], np.uint8), 8, axis=1).repeat(4, axis=0), "P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "a.gif", transparency=0)
    pixels = decode(tmp_path / "a.gif")
    assert (pixels[:4] == 255).all()
    assert (pixels[4:] == (40, 50, 60)).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_deep_images_are_scaled_by_the_given_bits(tmp_path, suffix, channels):
    values = RNG.integers(0, 4096, (20, 30, channels)).astype(np.uint16)
    if channels == 4:
        values[..., 3] = 0xFFFF
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), values[..., 0] if channels == 1 else values)
    path = tmp_path / f"a.{suffix}"
    color = np.repeat(values, 3, axis=2) if channels == 1 else values[..., 2::-1]
    assert header(path) == (30, 20, True)
    assert np.array_equal(decode(path, 12), color >> 4)
    assert np.array_equal(decode(path, 16), color >> 8)


@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 3), (2, 2)])
def test_the_white_level_leaves_out_a_hot_pixel(tmp_path, shape):
    values = RNG.integers(2100, 4096, shape).astype(np.uint16)
    values[0, 0] = 0xFFFF
    cv2.imwrite(str(tmp_path / "a.png"), values)
    assert 2048 < white_level(tmp_path / "a.png") < 4096
    assert (decode(tmp_path / "a.png", 12)[0, 0] == 255).all()
    cv2.imwrite(str(tmp_path / "a.png"), np.full(shape, 3000, np.uint16))
    assert white_level(tmp_path / "a.png") == 3000


@pytest.mark.parametrize("orientation", [3, 6])
def test_deep_color_tiff_is_turned_upright(tmp_path, orientation):
    values = RNG.integers(0, 65536, (20, 30, 3)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.tif"), values, [cv2.IMWRITE_TIFF_COMPRESSION, 1])
    data = bytearray((tmp_path / "a.tif").read_bytes())
    start = int.from_bytes(data[4:8], "little")
    entries = [start + 2 + 12 * index for index in range(int.from_bytes(data[start : start + 2], "little"))]
    tags = {int.from_bytes(data[entry : entry + 2], "little"): entry for entry in entries}
    spare = tags.get(0x0112, tags.get(0x0128, tags.get(0x0153)))
    assert spare is not None
    replaced = (0x0112).to_bytes(2, "little") + (3).to_bytes(2, "little") + (1).to_bytes(4, "little") + orientation.to_bytes(4, "little")
    chosen = {tag: bytes(data[entry : entry + 12]) for tag, entry in tags.items()}
    chosen.pop(next(tag for tag, entry in tags.items() if entry == spare))
    chosen[0x0112] = replaced
    for entry, tag in zip(entries, sorted(chosen), strict=True):
        data[entry : entry + 12] = chosen[tag]
    (tmp_path / "a.tif").write_bytes(data)
    upright = values[..., ::-1] >> 8
    expected = upright[::-1, ::-1] if orientation == 3 else np.rot90(upright, -1)
    assert header(tmp_path / "a.tif")[:2] == (expected.shape[1], expected.shape[0])
    assert np.array_equal(decode(tmp_path / "a.tif"), expected)


def result(work, file):
    try:
        found = work(file)
    except Unreadable as error:
        return str(error)
    return (found.shape, found.tobytes()) if isinstance(found, np.ndarray) else found


IN_MEMORY = {
    **{f"a.{suffix}": PHOTO for suffix in ("png", "bmp", "tif", "ppm", "webp", "jp2", "jpg", "gif")},
    "deep.png": np.arange(600, dtype=np.uint16).reshape(20, 30) * 100,
    "color.tif": np.arange(1800, dtype=np.uint16).reshape(20, 30, 3) * 30,
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", IN_MEMORY)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_file_and_its_bytes_decode_alike_intact_or_damaged(tmp_path_factory, name, data):
    path = tmp_path_factory.mktemp("spoiled") / name
    (cv2.imwrite(str(path), IN_MEMORY[name]) if IN_MEMORY[name].dtype == np.uint16 else saved(path.parent, name, IN_MEMORY[name]))
    content = bytearray(path.read_bytes())
    for place, value in data.draw(st.dictionaries(st.integers(0, len(content) - 1), st.integers(0, 255), max_size=3)).items():
        content[place] = value
    content = bytes(content[: data.draw(st.integers(len(content) // 2, len(content)) | st.just(len(content)))])
    path.write_bytes(content)
    for work in (header, decode, white_level) if IN_MEMORY[name].dtype == np.uint16 else (header, decode):
        assert result(work, path) == result(work, content)


def test_a_tiff_whose_header_names_a_place_that_no_file_has_is_not_an_image(tmp_path):
    path = saved(tmp_path, "a.tif", PHOTO)
    content = bytearray(path.read_bytes())
    content[2] = 43  # BigTIFF, whose places have 8 bytes
    path.write_bytes(content)
    assert result(decode, path) == result(decode, bytes(content)) == "not an image"


def test_large_jpegs_decode_reduced_but_never_below_draft_side(tmp_path):
    path = saved(tmp_path, "large.jpg", cv2.resize(PHOTO, (5000, 2500)))
    assert decode(path).shape == (1250, 2500, 3)
    assert min(decode(path).shape[:2]) >= DRAFT_SIDE
    assert header(path)[:2] == (5000, 2500)


def bomb(width, height):
    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([1, 0, 0, 0, 0])
    rows = zlib.compressobj(9)
    body = b"".join(rows.compress(bytes(1 + width // 8)) for _ in range(height)) + rows.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


BAD = {
    "empty.jpg": (b"", "empty file"),
    "text.jpg": (b"hello, I am no image", "not an image"),
    "pointer.png": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", LFS_POINTER),
    "page.jpg": (b"\n<!DOCTYPE html><p>404", "a web page"),
    "phone.jpg": (b"\x00\x00\x00\x18ftypheic" + bytes(40), "HEIC"),
    "script.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not an image"),
    "bomb.png": (bomb(20_000, 20_000), "over 100 megapixels"),
    "edge.png": (bomb(10_001, 10_000), "over 100 megapixels"),
    "dot.png": (bomb(1, 5), "smaller than 2 pixels"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_unusable_files_are_rejected_with_the_reason(tmp_path, name):
    content, reason = BAD[name]
    (tmp_path / name).write_bytes(content)
    for read in (header, decode):
        with pytest.raises(Unreadable, match=reason):
            read(tmp_path / name)


@pytest.mark.parametrize("name", sorted(set(BAD) - {"bomb.png", "edge.png"}))
def test_unusable_bytes_are_rejected_with_the_reason(name):
    content, reason = BAD[name]
    for read in (header, decode):
        with pytest.raises(Unreadable, match=reason):
            read(content)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "tif", "bmp"])
def test_truncated_files_are_rejected(tmp_path, suffix):
    path = saved(tmp_path, f"a.{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(Unreadable):
        decode(path)


def test_truncated_jpeg_has_the_reason_truncated(tmp_path):
    path = saved(tmp_path, "a.jpg")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(Unreadable, match=r"^truncated$"):
        decode(path)


def test_floating_point_pixels_are_rejected(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(Unreadable, match="floating-point"):
        decode(tmp_path / "a.tif")


def test_a_decompression_bomb_takes_little_memory(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(20_000, 20_000))
    code = (
        "import resource, sys; from pathlib import Path; from trainables.images.decode import decode, Unreadable\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: decode(Path(sys.argv[1])); sys.exit(3)\n"
        "except Unreadable: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < 20_000_000

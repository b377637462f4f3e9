"""ICC profiles, made here: the pixels that `decode` returns are sRGB."""

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from trainables.images.color_profiles import srgb_transform
from trainables.images.decode import decode

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
COLORS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def tag(kind, body):
    return kind + bytes(4) + body


def icc(space, tags):
    """Return the bytes of a display profile (ICC.1:2010, section 7) for a colour space, from its tags."""
    tags = {b"desc": tag(b"desc", (5).to_bytes(4, "big") + b"test\0" + bytes(78)), b"cprt": tag(b"text", b"none\0"), **tags}
    start, table, bodies = 128 + 4 + 12 * len(tags), b"", b""
    for name, body in tags.items():
        table += name + (start + len(bodies)).to_bytes(4, "big") + len(body).to_bytes(4, "big")
        bodies += body + bytes(-len(body) % 4)
    header = bytearray(128)
    header[8:12], header[12:16], header[16:20], header[20:24] = b"\x02\x40\0\0", b"mntr", space, b"XYZ "
    header[36:40], header[68:80] = b"acsp", xyz(0.9642, 1, 0.8249)
    header[:4] = (start + len(bodies)).to_bytes(4, "big")
    return bytes(header) + len(tags).to_bytes(4, "big") + table + bodies


def xyz(*values):
    return b"".join(round(value * 65536).to_bytes(4, "big", signed=True) for value in values)


def gamma(value):
    return tag(b"curv", (1).to_bytes(4, "big") + round(value * 256).to_bytes(2, "big"))


WHITE = {b"wtpt": tag(b"XYZ ", xyz(0.9642, 1, 0.8249))}
GREY = icc(b"GRAY", {**WHITE, b"kTRC": gamma(1.0)})
# The primaries of Adobe RGB (1998), adapted to D50; its gamma is 2.2.
PRIMARIES = {b"rXYZ": (0.60974, 0.31111, 0.01947), b"gXYZ": (0.20528, 0.62567, 0.06087), b"bXYZ": (0.14919, 0.06322, 0.74457)}
WIDE = icc(
    b"RGB ",
    {
        **WHITE,
        **{name: tag(b"XYZ ", xyz(*value)) for name, value in PRIMARIES.items()},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma(2.2)),
    },
)


def saved(folder, name, image, profile):
    options = {"lossless": True} if name.endswith("webp") else {"quality": 100, "subsampling": 0} if name.endswith("jpg") else {}
    image.save(folder / name, icc_profile=profile, **options)
    return folder / name


def expected(image, profile):
    """Return what Pillow's own conversion gives."""
    return np.asarray(ImageCms.profileToProfile(image, ImageCms.ImageCmsProfile(BytesIO(profile)), SRGB, outputMode="RGB"))


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
def test_colors_of_a_wide_profile_become_srgb(tmp_path, suffix):
    path = saved(tmp_path, f"a.{suffix}", Image.fromarray(COLORS), WIDE)
    with Image.open(path) as image:
        stored = image.convert("RGB")
    pixels = decode(path)
    assert np.array_equal(pixels, expected(stored, WIDE))
    assert np.abs(pixels.astype(int) - np.asarray(stored)).max() > 20
    assert np.array_equal(decode(path.read_bytes()), pixels)


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_a_linear_grey_profile_brightens_grey_images(tmp_path, mode):
    grey = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (4, 1)))
    path = saved(tmp_path, "a.png", grey.convert(mode), GREY)
    assert np.array_equal(decode(path), expected(grey, GREY))
    assert 180 < decode(path)[0, 128, 0] < 195  # sRGB of linear one half: 188


def test_the_profile_of_cmyk_is_applied(tmp_path):
    """No part of Pillow makes a profile for CMYK, so a curve for the sum of the inks stands in: a table from CMYK to Lab."""
    inks = Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 30, 4), np.uint8), "CMYK")
    grid = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), -1).reshape(-1, 4)
    light = np.clip(255 - 255 * grid.sum(1) / 2, 0, 255).round().astype(np.uint8)
    table = np.stack([light, np.full(16, 128, np.uint8), np.full(16, 128, np.uint8)], 1).tobytes()
    ramp = bytes(range(256))
    body = bytes([4, 3, 2, 0]) + xyz(1, 0, 0, 0, 1, 0, 0, 0, 1) + ramp * 4 + table + ramp * 3
    profile = bytearray(icc(b"CMYK", {**WHITE, b"A2B0": tag(b"mft1", body)}))
    profile[12:16], profile[20:24] = b"prtr", b"Lab "
    path = saved(tmp_path, "a.tif", inks, bytes(profile))
    pixels = decode(path)
    assert np.array_equal(pixels, expected(inks, bytes(profile)))
    assert not np.array_equal(pixels, np.asarray(inks.convert("RGB")))


def test_transparent_and_palette_images_keep_their_alpha(tmp_path):
    alpha = np.full((40, 60, 1), 255, np.uint8)
    alpha[:20] = 0
    path = saved(tmp_path, "a.png", Image.fromarray(np.concatenate([COLORS, alpha], 2)), WIDE)
    assert (decode(path)[:20] == 255).all()
    assert np.array_equal(decode(path)[20:], expected(Image.fromarray(COLORS), WIDE)[20:])
    palette = Image.fromarray(COLORS).quantize(16)
    assert np.array_equal(decode(saved(tmp_path, "p.png", palette, WIDE)), expected(palette.convert("RGB"), WIDE))


def test_16_bit_images_are_scaled_first(tmp_path):
    values = COLORS.astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "plain.png"), values[..., ::-1])
    whole = (tmp_path / "plain.png").read_bytes()
    chunks = PngImagePlugin.PngInfo()
    Image.new("L", (2, 2)).save(tmp_path / "small.png", icc_profile=WIDE, pnginfo=chunks)
    small = (tmp_path / "small.png").read_bytes()
    begin = small.index(b"iCCP") - 4
    length = int.from_bytes(small[begin : begin + 4], "big") + 12
    (tmp_path / "a.png").write_bytes(whole[:33] + small[begin : begin + length] + whole[33:])
    assert np.array_equal(decode(tmp_path / "plain.png"), COLORS)
    assert np.array_equal(decode(tmp_path / "a.png"), expected(Image.fromarray(COLORS), WIDE))


@pytest.mark.parametrize(
    ("mode", "profile"),
    [
        ("RGB", None),
        ("RGB", SRGB.tobytes()),
        ("L", SRGB.tobytes()),
        ("RGB", GREY),
        ("CMYK", WIDE),
        ("RGB", b"no profile at all"),
        ("RGB", WIDE[:200]),
        ("L", GREY[:150] + bytes(30)),
    ],
)
def test_other_pixels_stay_as_they_are(tmp_path, mode, profile):
    """Without a profile, with that of sRGB, with one of another colour space, and with a damaged one."""
    image = Image.fromarray(COLORS).convert(mode)
    path = saved(tmp_path, "a.tif", image, profile)
    with Image.open(path) as opened:
        assert opened.info.get("icc_profile") == profile
        assert srgb_transform(opened) is None
    assert np.array_equal(decode(path), np.asarray(image.convert("RGB")))


def test_threads_share_a_transform(tmp_path):
    paths = [saved(tmp_path, f"{shift}.png", Image.fromarray(np.roll(COLORS, shift, axis=2)), WIDE) for shift in range(3)]
    alone = [decode(path) for path in paths]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(decode, paths * 40))
    assert all(np.array_equal(pixels, alone[index % 3]) for index, pixels in enumerate(together))

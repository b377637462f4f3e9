"""What the augmentation operations draw from at each strength, for CPUs and GPUs alike. Light to import."""

from dataclasses import dataclass

GREY = 128
MIDDLE = (7 / 8) ** 2
"""Share of a stored image's area that evaluation sees. Random crops have about this area, so that objects have about the same size."""
Range = tuple[float, float]  # lowest, largest


@dataclass(frozen=True)
class Ranges:
    """Ranges, and the chances that an image gets an operation."""

    crop_area: Range  # share of the stored image's area
    crop_ratio: Range  # width over height
    flip_chance: float
    affine_chance: float
    rotation: Range  # degrees
    shear: Range  # degrees, of each axis
    zoom: Range  # factor on the size, of each axis
    shift: Range  # share of the side, of each axis
    color_chance: float
    brightness: Range  # factor
    contrast: Range  # factor
    saturation: Range  # factor on the difference to grey
    hue: Range  # share of the colour circle
    noise_chance: float  # that an image gets either noise or blur, each as likely
    noise: Range  # standard deviation, share of the largest value
    blur: Range  # standard deviation of the Gaussian, pixels
    dropout_chance: float
    holes: tuple[int, int]  # number of grey rectangles
    hole_side: Range  # height and width of a grey rectangle, shares of the side


def ranges(s: float) -> Ranges:
    """Return the ranges at the strength `s` in (0, 1]."""
    return Ranges(
        crop_area=(MIDDLE * (1 - 0.75 * s), MIDDLE + (1 - MIDDLE) * s),
        crop_ratio=(1 - 0.3 * s, 1 + 0.4 * s),
        flip_chance=min(0.5, 2 * s),
        affine_chance=0.8,
        rotation=(-30 * s, 30 * s),
        shear=(-15 * s, 15 * s),
        zoom=(1 - 0.2 * s, 1 + 0.2 * s),
        shift=(-0.12 * s, 0.12 * s),
        color_chance=0.8,
        brightness=(1 - 0.4 * s, 1 + 0.4 * s),
        contrast=(1 - 0.4 * s, 1 + 0.4 * s),
        saturation=(1 - 0.5 * s, 1 + 0.5 * s),
        hue=(-0.08 * s, 0.08 * s),
        noise_chance=0.5 * s,
        noise=(0.0, 0.15 * s),
        blur=(0.1, 0.1 + 1.9 * s),
        dropout_chance=0.7 * s,
        holes=(1, 1 + round(3 * s)),
        hole_side=(0.05, 0.05 + 0.3 * s),
    )

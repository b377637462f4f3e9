"""`View`, what a network sees of each image."""

from dataclasses import dataclass

VIEW_SEED = 0
"""Seeds the augmentation of views. It is the same for all trials, because they share the views."""


@dataclass(frozen=True)
class View:
    """One square of each image, of `size` pixels a side: its centre, perhaps with left and right exchanged, or an augmented one.

    `number` tells augmented views of equal strength and operations apart.
    """

    size: int
    mirrored: bool = False
    strength: float = 0.0
    ops: tuple[str, ...] = ()
    number: int = 0

    @property
    def augmented(self) -> bool:
        """Whether the view is random. A view of strength 0 is the centre."""
        return self.strength > 0 and bool(self.ops)


def training_view(size: int, strength: float, ops: tuple[str, ...], number: int) -> View:
    """Return the view with this number. All views of strength 0 are one."""
    view = View(size, strength=strength, ops=tuple(sorted(ops)), number=number)
    return view if view.augmented else View(size)

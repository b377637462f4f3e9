"""The type of a backbone's description: what the program knows of a network before it builds it."""

from dataclasses import dataclass
from typing import Literal

TIMM_PREFIX = "timm:"
Channels = tuple[float, float, float]
Stages = tuple[tuple[str, ...], ...]

IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Backbone:
    """A row of the table of backbones. The network is torchvision's, or timm's where `timm_name` names it."""

    name: str
    family: str
    stages: Stages  # dotted names of the network's modules, and of parameters that are in none of them, in order of execution
    width: int  # number of features after pooling
    native_size: int  # side of the images that the ImageNet weights were measured on, pixels
    minimum_size: int  # smallest side that it accepts, pixels
    weights_file: str  # ImageNet weights
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD
    pooling: Literal["average", "relu_average", "own"] = "average"  # what follows the last stage; "own": the network pools by itself
    origin: Literal["torchvision", "package", "hub"] = "torchvision"  # who publishes `weights_file`
    location: str = ""  # the Python package, or the repository of the Hugging Face hub, that holds `weights_file`
    timm_name: str | None = None
    size_step: int = 1  # sides must be multiples of this, pixels
    fixed_size: bool = False  # whether the network is built for one image size

    @property
    def library(self) -> str:
        """The package whose code is the network: ``timm`` or ``torchvision``."""
        return "timm" if self.timm_name else "torchvision"

    @property
    def runs_in_parts(self) -> bool:
        """Whether the stages, run one after the other, are the network. If not, the network's own code runs them."""
        return self.pooling != "own"

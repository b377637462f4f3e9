"""`Mixing`, which mixes the images of a batch with each other, and their targets in the same proportion: MixUp and CutMix."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torchvision.transforms import v2

from trainables.images.batches import Batch


class Mixing:
    """Mixes each batch by MixUp (Zhang et al. 2018) or CutMix (Yun et al. 2019), with the transforms of torchvision.

    `mixup` and `cutmix` are the alphas of the Beta distribution that the proportion is drawn from, one for the whole batch; 0 is off. With
    both on, one of them is drawn for each batch, both as likely. Each image is mixed with the one before it in the batch.
    All draws depend on `seed` and the step alone. With several processes all draw the same, and each mixes its own part of the batch.
    `classes` is the number of classes of a multiclass task, else None.
    """

    def __init__(self, mixup: float, cutmix: float, *, classes: int | None, seed: int) -> None:
        kinds = ((v2.MixUp, mixup), (v2.CutMix, cutmix))
        self._transforms = [kind(alpha=alpha, num_classes=None) for kind, alpha in kinds if alpha]
        self._classes, self._seed = classes, seed

    def __call__(self, images: Tensor, targets: Tensor, step: int) -> Batch:
        """Return a batch mixed: images `(B, 3, S, S)`, and float targets: probabilities `(B, classes)`, or the shape of `targets`.

        `step` is the 0-based step of the trial. If nothing is on, the batch is returned as it is.
        """
        if not self._transforms:
            return images, targets
        chances = np.random.default_rng((self._seed, step, len(self._transforms)))
        transform = self._transforms[chances.integers(len(self._transforms))]
        whole = (targets if self._classes is None else one_hot(targets, self._classes)).float()
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(int(chances.integers(2**63)))  # of the CPU, which torchvision draws from
            mixed, shares = transform(images, whole.view(len(whole), -1))
        return mixed.contiguous(memory_format=torch.channels_last), shares.view(whole.shape)


NO_MIXING = Mixing(0.0, 0.0, classes=None, seed=0)

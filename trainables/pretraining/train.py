"""`train`, which trains MobileNetV3-Small on the drawn images and writes its body (the weights without the classifier) each epoch."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import mobilenet_v3_small

from trainables.storage.atomic_write import atomic_write

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
CROP_SIDES = (40, 48, 56, 64)
BATCH = 128
MAX_LR = 3e-3
WEIGHT_DECAY = 0.05
LABEL_SMOOTHING = 0.1
WARM_UP_SHARE = 0.3
HELD_OUT_SHARE = 0.05
STATISTICS_IMAGES = 4096  # over which the statistics of batch normalisation are computed


@dataclass(frozen=True)
class PretrainingRecipe:
    """Everything that decides the weights: the seed, the numbers of images and of classes, and the number of passes over the images."""

    seed: int
    images: int
    classes: int
    epochs: int


@dataclass(frozen=True)
class EpochReport:
    """The result of an epoch, counted from 1: the mean training loss (nats), and the share of held-out images classified correctly."""

    epoch: int
    loss: float
    accuracy: float


def train(
    images: Tensor, labels: Tensor, recipe: PretrainingRecipe, work: Path, on_step: Callable[[], None] = lambda: None
) -> Iterator[EpochReport]:
    """Train on `images` (N, 64, 64, 3) uint8 with `labels` (N,) int64, resuming from `work`/checkpoint.pt if there is one.

    Yields each epoch's report after the checkpoint and `work`/epoch_NN.safetensors are written. The last 5 % of the images are
    held out. Calls `on_step` after each optimizer step. With the same number of threads an interrupted run gives the same bits as an
    uninterrupted one. Raises ValueError when the checkpoint in `work` belongs to another recipe.
    """
    model = build_model(recipe)
    optimizer = torch.optim.AdamW(_decay_groups(model), lr=MAX_LR)
    start = _load_checkpoint(work / "checkpoint.pt", model, optimizer, recipe)
    seen = len(images) - held_out(len(images))
    steps = steps_per_epoch(len(images))

    for epoch in range(start, recipe.epochs):
        generator = torch.Generator().manual_seed(recipe.seed * 100_003 + epoch)
        order = torch.randperm(seen, generator=generator)
        losses = []
        model.train()
        for step, rows in enumerate(order.chunk(steps)):
            rate = one_cycle((epoch * steps + step) / (recipe.epochs * steps))
            for group in optimizer.param_groups:
                group["lr"] = rate
            scores = model(augment(images, rows, generator))
            loss = functional.cross_entropy(scores, labels[rows], label_smoothing=LABEL_SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            on_step()

        recompute_batch_norm(model, images[:seen][:STATISTICS_IMAGES])
        report = EpochReport(epoch + 1, sum(losses) / len(losses), accuracy(model, images[seen:], labels[seen:]))
        export(model, work / f"epoch_{epoch + 1:02d}.safetensors", recipe, report)
        checkpoint = {"recipe": asdict(recipe), "epochs_done": epoch + 1, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
        with atomic_write(work / "checkpoint.pt") as file:
            torch.save(checkpoint, file)
        yield report


def build_model(recipe: PretrainingRecipe) -> nn.Module:
    """Return torchvision's MobileNetV3-Small with one linear layer as classifier, in channels-last memory. Seeds torch by the recipe.

    The momentum of batch normalisation is 0.1: torchvision's 0.01 for this network suits runs of millions of steps.
    """
    torch.manual_seed(recipe.seed)
    model: nn.Module = mobilenet_v3_small(weights=None)
    model.classifier = nn.Linear(576, recipe.classes)
    for layer in _batch_norms(model):
        layer.momentum = 0.1
    return model.to(memory_format=torch.channels_last)


def held_out(images: int) -> int:
    """Return how many of `images` images are not trained on but used to measure accuracy; these are the last ones."""
    return max(1, round(HELD_OUT_SHARE * images))


def steps_per_epoch(images: int) -> int:
    """Return the number of optimizer steps in one pass over `images` images without those held out."""
    return math.ceil((images - held_out(images)) / BATCH)


def one_cycle(progress: float) -> float:
    """Return the learning rate when the share `progress` in [0, 1] of all steps is done.

    It rises from 1/25 of `MAX_LR` to `MAX_LR` and falls to zero, both in cosine form.

    Smith & Topin, "Super-Convergence", 2018, in the shape of `torch.optim.lr_scheduler.OneCycleLR`.
    """
    if progress < WARM_UP_SHARE:
        low, share = MAX_LR / 25, 1 - progress / WARM_UP_SHARE
    else:
        low, share = 0.0, (progress - WARM_UP_SHARE) / (1 - WARM_UP_SHARE)
    return low + (MAX_LR - low) * 0.5 * (1 + math.cos(math.pi * share))


def augment(images: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
    """Return the images `rows` (B,) of `images` (N, 64, 64, 3) uint8, augmented and normalised, (B, 3, side, side) float32.

    The side, one of `CROP_SIDES`, is drawn for the whole batch.

    Drawn for each image: the place of the crop, flips of both axes, an order of the channels, contrast and brightness.
    """
    count, full = len(rows), images.shape[1]
    side = CROP_SIDES[int(torch.randint(len(CROP_SIDES), (), generator=generator))]
    at = [_flipped_crop(count, side, full, generator) for _ in range(2)]
    pixels = images[rows[:, None, None], at[0][:, :, None], at[1][:, None, :]].permute(0, 3, 1, 2)
    batch = pixels.contiguous(memory_format=torch.channels_last).float().div_(255)
    channels = torch.rand(count, 3, generator=generator).argsort(dim=1)
    batch = batch[torch.arange(count)[:, None], channels]
    contrast = 0.6 + 0.8 * torch.rand(count, 1, 1, 1, generator=generator)
    brightness = 0.4 * torch.rand(count, 1, 1, 1, generator=generator) - 0.2
    return normalise(((batch - 0.5) * contrast + 0.5 + brightness).clamp_(0, 1))


def normalise(batch: Tensor) -> Tensor:
    """Return a batch (B, 3, H, W) in [0, 1] normalised by ImageNet's mean and standard deviation, in channels-last memory.

    Trials normalise in the same way for this backbone.
    """
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return ((batch - mean) / std).contiguous(memory_format=torch.channels_last)


def recompute_batch_norm(model: nn.Module, images: Tensor) -> None:
    """Replace the running statistics of batch normalisation by averages over images, (N, 64, 64, 3) uint8, without augmentation.

    Leaves the model in training mode.
    """
    for layer in _batch_norms(model):
        layer.reset_running_stats()
        layer.momentum = None
    model.train()
    with torch.no_grad():
        for batch in torch.split(images, 2 * BATCH):
            model(_plain(batch))
    for layer in _batch_norms(model):
        layer.momentum = 0.1


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share, in [0, 1], of images (N, 64, 64, 3) uint8 that the model classifies as their label.

    Leaves the model in evaluation mode.
    """
    model.eval()
    right = [
        (model(_plain(batch)).argmax(1) == truth) for batch, truth in zip(torch.split(images, 512), torch.split(labels, 512), strict=True)
    ]
    return float(torch.cat(right).float().mean())


def export(model: nn.Module, to: Path, recipe: PretrainingRecipe, report: EpochReport) -> None:
    """Write the body in half precision to a safetensors file, with the recipe and the report's accuracy as metadata.

    Its keys are torchvision's `features.*` without the batch counters.

    Raises ValueError when a weight is not finite in half precision.
    """
    weights = {
        key: value.half().contiguous()
        for key, value in model.state_dict().items()
        if key.startswith("features.") and not key.endswith("num_batches_tracked")
    }
    broken = [key for key, value in weights.items() if not value.isfinite().all()]
    if broken:
        raise ValueError(f"weights must be finite in half precision but {', '.join(broken)} are not")
    facts = asdict(recipe) | {"epoch": report.epoch, "accuracy": round(report.accuracy, 4), "licence": "Apache-2.0"}
    metadata = {key: str(value) for key, value in facts.items()}
    with atomic_write(to) as file:
        file.write(save(weights, metadata))


def _load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, recipe: PretrainingRecipe) -> int:
    """Load a checkpoint into the model and the optimizer, and return the number of epochs done; 0 if there is no file.

    Raises ValueError if the checkpoint belongs to another recipe.
    """
    if not path.exists():
        return 0
    checkpoint: dict[str, Any] = torch.load(path, weights_only=True)
    if checkpoint["recipe"] != asdict(recipe):
        raise ValueError(f"{path} must belong to {asdict(recipe)} but belongs to {checkpoint['recipe']}; choose another work folder")
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    return int(checkpoint["epochs_done"])


def _decay_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Return two parameter groups for AdamW: kernels and matrices with weight decay, biases and normalisation without."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]


def _batch_norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]


def _plain(images: Tensor) -> Tensor:
    return normalise(images.permute(0, 3, 1, 2).float() / 255)


def _flipped_crop(count: int, side: int, full: int, generator: torch.Generator) -> Tensor:
    """Return for each image the `side` pixel positions of a random crop along one axis, (count, side), reversed with probability 1/2.

    `full` is the image's number of pixels along the axis.
    """
    start = torch.randint(full - side + 1, (count, 1), generator=generator)
    run = torch.arange(side).expand(count, side)
    reverse = torch.rand(count, 1, generator=generator) < 0.5
    return start + torch.where(reverse, side - 1 - run, run)

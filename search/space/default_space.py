"""The default space: the table of parameters that a search varies unless the user changes it."""

from collections.abc import Sequence
from itertools import pairwise

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search.space.parameter import Parameter, Values, always
from trainables.config import TrialConfig
from trainables.recipe import largest_batch, rule_epochs

LEARNING_RATE_FACTORS = {"sgd": 25.0}
"""Optimizer → factor on the searched learning rate, whose range is that of AdamW; 1 for the others, which adapt the step of each weight."""
STRENGTH_STEP = 0.25
"""Few strengths, because trials with equal strengths share the stored activations of augmented images."""
BATCH_STEP, LARGEST_BATCH = 16, 64
INITIALIZERS = ("trunc_normal", "xavier_uniform", "kaiming_normal", "orthogonal", "zeros_last")


def default_parameters(
    recipe: TrialConfig, *, images: int, backbones: Sequence[str], stages: int, image_sizes: Sequence[int] = ()
) -> tuple[Parameter, ...]:
    """Return the default space's parameters, for `images` training images and backbones of at most `stages` stages.

    The backbone and the image size (pixels, ascending) are parameters if there are several. Batch sizes and epochs depend on `images`.
    """
    epochs = rule_epochs(images, recipe.batch_size)
    batch = min(largest_batch(images), LARGEST_BATCH) // BATCH_STEP * BATCH_STEP
    rows = (
        (len(backbones) > 1, Parameter("backbone", "backbone", CategoricalDistribution(backbones))),
        (len(image_sizes) > 1, Parameter("image_size", "image_size", _sizes(image_sizes or (recipe.image_size,)))),
        (True, Parameter("learning_rate", "learning_rate", FloatDistribution(1e-4, 2e-2, log=True), always, _learning_rate_factor)),
        (True, Parameter("unfrozen_stages", "unfrozen_stages", IntDistribution(0, stages))),
        (True, Parameter("epochs", "epochs", IntDistribution(max(1, epochs // 2), epochs * 2, log=True))),
        (batch > BATCH_STEP, Parameter("batch_size", "batch_size", IntDistribution(BATCH_STEP, max(batch, BATCH_STEP), step=BATCH_STEP))),
        (True, Parameter("head_layers", "head_layers", IntDistribution(0, 2), _is_not_listed)),
        (True, Parameter("head_units", "head_units", IntDistribution(128, 1024, log=True), _has_hidden_layers)),
        (True, Parameter("activation", "activation", CategoricalDistribution(("relu", "gelu", "tanh")), _has_hidden_layers)),
        (True, Parameter("initializer", "initializer", CategoricalDistribution(INITIALIZERS))),
        (True, Parameter("augmentation_strength", "augmentation_strength", FloatDistribution(0.0, 1.0, step=STRENGTH_STEP))),
    )
    return tuple(parameter for searched, parameter in rows if searched)


def _learning_rate_factor(values: Values) -> float:
    return LEARNING_RATE_FACTORS.get(values["optimizer"], 1.0)


def _has_hidden_layers(values: Values) -> bool:
    return _is_not_listed(values) and bool(values["head_layers"] >= 1)


def _is_not_listed(values: Values) -> bool:
    return values["head"] is None


def _sizes(sizes: Sequence[int]) -> IntDistribution | CategoricalDistribution:
    """Return a range that holds exactly these ascending sizes if their differences are equal, else choices."""
    steps = {after - before for before, after in pairwise(sizes)}
    return IntDistribution(sizes[0], sizes[-1], step=steps.pop()) if len(steps) == 1 else CategoricalDistribution(tuple(sizes))

"""The default space: the table of parameters that a search varies unless the user changes it."""

from collections.abc import Sequence

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search.space.parameter import Parameter, Values
from trainables.config import TrialConfig
from trainables.recipe import largest_batch, rule_epochs

ADAPTIVE = ("adamw", "rmsprop")
"""Optimizers that adapt the step of each weight; they share ranges of the learning rate and the weight decay."""


def default_parameters(recipe: TrialConfig, *, task: str, images: int, backbones: Sequence[str], stages: int) -> tuple[Parameter, ...]:
    """Return the default space's parameters, for `images` training images and backbones of at most `stages` stages.

    The backbone is a parameter if there are several. Batch sizes and epochs depend on `images`.
    """
    batches = tuple(size for size in (16, 32, 64) if size <= largest_batch(images)) or (largest_batch(images),)
    epochs = rule_epochs(images, recipe.batch_size)
    initializers = ("trunc_normal", "xavier_uniform", "kaiming_normal", "orthogonal", "zeros_last")
    backbone = Parameter("backbone", "backbone", CategoricalDistribution(backbones))
    label_smoothing = Parameter("label_smoothing", "label_smoothing", CategoricalDistribution((0.0, 0.05, 0.1)))
    return (
        *((backbone,) if len(backbones) > 1 else ()),
        *_optimizer_parameters(),
        Parameter("unfrozen_stages", "unfrozen_stages", IntDistribution(0, stages)),
        Parameter("stage_lr_decay", "stage_lr_decay", FloatDistribution(0.3, 1.0), lambda v: v["unfrozen_stages"] >= 1),
        Parameter("epochs", "epochs", IntDistribution(max(1, epochs // 2), epochs * 2, log=True)),
        Parameter("batch_size", "batch_size", CategoricalDistribution(batches)),
        Parameter("head_layers", "head_layers", IntDistribution(0, 2)),
        Parameter("head_units", "head_units", CategoricalDistribution((128, 256, 512, 1024)), lambda v: v["head_layers"] >= 1),
        Parameter("initializer", "initializer", CategoricalDistribution(initializers)),
        Parameter("dropout", "dropout", FloatDistribution(0.0, 0.5, step=0.1)),
        *((label_smoothing,) if task == "multiclass" else ()),
        Parameter("augmentation_strength", "augmentation_strength", FloatDistribution(0.0, 1.0, step=0.125)),
    )


def _optimizer_parameters() -> tuple[Parameter, ...]:
    """Return the optimizer, its momentum, and the learning rate and weight decay with a range for each kind of optimizer."""

    def adaptive(values: Values) -> bool:
        return values["optimizer"] in ADAPTIVE

    def sgd(values: Values) -> bool:
        return bool(values["optimizer"] == "sgd")

    return (
        Parameter("optimizer", "optimizer", CategoricalDistribution(("adamw", "sgd"))),
        Parameter("learning_rate", "learning_rate", FloatDistribution(1e-4, 1e-2, log=True), adaptive),
        Parameter("learning_rate_sgd", "learning_rate", FloatDistribution(1e-3, 3e-1, log=True), sgd),
        Parameter("momentum", "momentum", CategoricalDistribution((0.0, 0.9)), sgd),
        Parameter("weight_decay", "weight_decay", FloatDistribution(1e-5, 1e-1, log=True), adaptive),
        Parameter("weight_decay_sgd", "weight_decay", FloatDistribution(1e-6, 1e-3, log=True), sgd),
    )

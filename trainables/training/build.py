"""Builds a trial's network and optimizer from its configuration and data set."""

import torch
from torch import nn

from trainables.config import TrialConfig
from trainables.data.dataset import Dataset
from trainables.distributed.sync_batch_norm import synchronize_batch_norm
from trainables.distributed.world import World
from trainables.head_layers import read_layers
from trainables.networks.bodies import build_body
from trainables.networks.heads import ACTIVATIONS, build_head, build_listed_head
from trainables.networks.model import MIN_BATCH_FOR_STATISTICS, Network
from trainables.networks.reinitialize import reinitialized
from trainables.networks.weights import load_weights
from trainables.training.optim import OPTIMIZERS
from trainables.training.tasks import TASKS


def default_device() -> torch.device:
    """Return the first GPU that this process may use, or the CPU if there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build_network(dataset: Dataset, trial: TrialConfig, *, world: World, sync_batch_norm: bool) -> tuple[Network, str]:
    """Return the network with its pretrained body and new head, and where the weights come from (as `load_weights` returns it).

    Seeds torch with the trial's seed. Batch norm trains only where it has at least 16 images at a time, or where some of the body
    starts without weights. Raises ``ConfigError`` or ``WeightsError`` as `load_weights`, `build_head` and `Network` do.
    """
    torch.manual_seed(trial.seed)
    body = build_body(trial.backbone, trial.image_size)
    with reinitialized(body, trial.reinit_stages, trial.initializer):
        provenance = load_weights(body, trial.backbone, trial.weights)
    if sync_batch_norm and world.size > 1:
        synchronize_batch_norm(body)
    head = _build_head(body.width, TASKS[dataset.task].outputs(len(dataset.classes)), trial)
    normalized_together = trial.batch_size // (trial.accumulation * (1 if sync_batch_norm else world.size))
    has_new_norms = trial.weights == "none" or trial.reinit_stages > 0
    batch_norm_trains = has_new_norms or normalized_together >= MIN_BATCH_FOR_STATISTICS
    return Network(body, head, unfrozen_stages=trial.unfrozen_stages, batch_norm_trains=batch_norm_trains), provenance


def _build_head(inputs: int, outputs: int, trial: TrialConfig) -> nn.Sequential:
    if trial.head is not None:
        return build_listed_head(inputs, outputs, read_layers(trial.head, ACTIVATIONS), trial.initializer)
    return build_head(
        inputs,
        outputs,
        layers=trial.head_layers,
        units=trial.head_units,
        activation=trial.activation,
        dropout=trial.dropout,
        initializer=trial.initializer,
    )


def build_optimizer(network: Network, trial: TrialConfig, *, body: bool = True) -> torch.optim.Optimizer:
    """Return the trial's optimizer over the head and the unfrozen stages of the body; without `body`, over the head alone."""
    groups = network.parameter_groups(trial.learning_rate, trial.stage_lr_decay, trial.weight_decay)
    for group in groups:
        if trial.l2_sp and group["distance"] > trial.reinit_stages:
            group["weight_decay"] = 0.0  # `PretrainedPull` takes its place
    return OPTIMIZERS[trial.optimizer]([group for group in groups if body or not group["distance"]], trial.momentum)

"""Trains the head alone on the features of the frozen body, before the body trains."""

import numpy as np
import torch
from torch import Tensor

from trainables.config import TrialConfig
from trainables.images.batches import Weights, shuffled
from trainables.networks.model import Network
from trainables.training.build import build_optimizer
from trainables.training.optim import learning_rate_factor
from trainables.training.tasks import Loss


def train_head(network: Network, features: Tensor, targets: Tensor, loss: Loss, trial: TrialConfig, weights: Weights | None = None) -> None:
    """Train the head in place for `trial.head_epochs` passes over the pooled features `(N, width)` of the training images.

    A head with random weights would send random gradients into the pretrained body at its first steps, which distorts its features
    (Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features"). The passes are cheap, because the body does not run in them. The
    learning rate begins at the trial's and falls to 0 along half a cosine. Seeds torch with the trial's seed. `weights`: see
    `trainables.images.batches.shuffled`.
    """
    torch.manual_seed(trial.seed)
    optimizer = build_optimizer(network, trial, body=False)
    per_pass = max(1, len(features) // trial.batch_size)
    steps = trial.head_epochs * per_pass
    network.head.train()
    for step in range(steps):
        if step % per_pass == 0:
            drawn = shuffled(np.arange(len(features)), weights, np.random.default_rng((trial.seed, step)))
            order = torch.from_numpy(drawn).to(features.device)
        chosen = order[step % per_pass * trial.batch_size :][: trial.batch_size]
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * learning_rate_factor("cosine", 0.0, step, steps=steps)
        loss(network.head(features[chosen]), targets[chosen]).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

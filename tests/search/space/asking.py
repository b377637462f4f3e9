"""A trial of a space, asked of Optuna at random."""

import optuna
from optuna.samplers import RandomSampler


def ask(space, seed=0):
    """Return a random configuration of a space and its Optuna parameters."""
    trial = optuna.create_study(sampler=RandomSampler(seed=seed)).ask()
    return space.suggest(trial), trial.params

"""The trainer: one trial's network, trained and evaluated one reported epoch at a time."""

import math
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables.config import TrialConfig
from trainables.data.dataset import Dataset
from trainables.data.splits import PARTS
from trainables.distributed.world import ALONE, World
from trainables.errors import NonFiniteError
from trainables.images.batches import Batch, Batches, Rows, Weights
from trainables.networks.backbones import backbone
from trainables.objectives import DIRECTIONS, is_better, objective
from trainables.recipe import passes_per_epoch
from trainables.storage.array_cache import ArrayCache
from trainables.training.build import build_network, build_optimizer, default_device
from trainables.training.checkpoint import State
from trainables.training.checks import check_squares, check_trial
from trainables.training.class_balance import image_weights, loss_weights
from trainables.training.diagnostics import decode_predictions, diagnose, interval
from trainables.training.evaluation.batch_size import largest_fitting_batch
from trainables.training.evaluation.evaluator import Evaluator
from trainables.training.export import describe_network, export_network
from trainables.training.features.features import Features, node_cache, uses_features
from trainables.training.head_start import train_head
from trainables.training.loop import LoopSettings, MicroBatches, train_epoch
from trainables.training.optim import learning_rate_factor
from trainables.training.precision import precision_on
from trainables.training.regularization.mixing import Mixing
from trainables.training.regularization.pretrained_pull import PretrainedPull
from trainables.training.regularization.weight_average import WeightAverage
from trainables.training.tasks import TargetScale, build_loss, fit_target_scale, score


def set_threads(threads: int) -> None:
    """Let torch use this many CPU threads in this process. Results are bit for bit the same only with the same number."""
    torch.set_num_threads(threads)


class Trainer:
    """Builds a network from a data set and a configuration, and trains it one reported epoch at a time.

    Every random number is drawn from (seed, epoch, row), so a trainer that continues from a saved state gives the same numbers as one
    that was never interrupted. In a `world` of several processes each process has a trainer, which trains on its part of every batch;
    batch norm computes its statistics over that part, or with `sync_batch_norm` over all parts.
    `metric` is the one to optimize, by default the task's (see `objective`). `workers` is the number of threads that prepare batches.
    `feature_cache` holds the activations behind frozen stages, by default those of this node without a limit of their own (`node_cache`).
    `feature_parts`: see `Features`; the parts of the data set by default. `passes` over the training images make one reported epoch, by
    default `passes_per_epoch`.
    Raises ``ConfigError``, ``DataError`` or ``WeightsError`` if the configuration does not fit the data.
    """

    def __init__(
        self,
        dataset: Dataset,
        trial: TrialConfig,
        *,
        metric: str | None = None,
        device: torch.device | None = None,
        workers: int = 0,
        world: World = ALONE,
        sync_batch_norm: bool = False,
        feature_cache: ArrayCache | None = None,
        feature_parts: Sequence[Rows] | None = None,
        passes: int | None = None,
    ) -> None:
        check_trial(dataset, trial, world.size)
        check_squares(dataset, trial)
        self.dataset, self.trial, self.world, self.device = dataset, trial, world, device or default_device()
        images, targets = len(dataset.rows["train"]), self._training_targets()
        self.metric = objective(dataset.task, targets, metric)
        self.scale = fit_target_scale(targets, trial.target) if dataset.task == "regression" else TargetScale()
        self.plain_loss = build_loss(dataset.task, trial.loss, scale=self.scale)

        network, self.provenance = build_network(dataset, trial, world=world, sync_batch_norm=sync_batch_norm)
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = build_optimizer(self.network, trial)

        row, side = backbone(trial.backbone), trial.image_size
        self.batches = Batches(
            dataset.images, dataset.targets, image_size=side, mean=row.mean, std=row.std, device=self.device, workers=workers
        )
        self.passes = passes or passes_per_epoch(images, trial.batch_size)
        self.steps_per_epoch = self.passes * (images // trial.batch_size)
        self.average = WeightAverage(self.network, trial.ema)
        self.features = self._features(feature_cache, feature_parts)
        self.settings = self._loop_settings()
        self.evaluator = Evaluator(
            self.network,
            self.batches,
            self.settings.precision,
            world,
            image_size=trial.evaluation_size or side,
            flips=trial.flip_average,
            features=self.features,
        )
        self.epoch = 0
        self.history: dict[str, list[float]] = {}
        self.head_trained = not trial.head_epochs or trial.reinit_stages > 0
        self._best: dict[str, Tensor] | None = None
        self._predicted: tuple[Tensor, Tensor] | None = None

    def run_epoch(self) -> dict[str, float]:
        """Train one reported epoch, evaluate on the validation images, and return the epoch's row, which is also added to `history`.

        Besides every metric of the task it holds `objective`, `train_loss`, `learning_rate` (of the head, at the epoch's end),
        `seconds_training`, `seconds_evaluation` and `images_per_second`. The objective is this epoch's metric. Only with the schedule
        ``constant`` it is that of the best epoch so far, and the last epoch ends with the best epoch's weights in the network.
        Raises ``NonFiniteError`` if the training loss or a metric is not a finite number.
        """
        started = time.perf_counter()
        train_loss, images = self._train()
        trained = time.perf_counter()
        self._recompute_statistics()
        logits, targets = self.predict("validation")
        metrics = self.score(logits, targets)
        _check_finite(metrics)
        self.epoch += 1
        row = metrics | {
            "objective": self._objective(metrics[self.metric]),
            "train_loss": train_loss,
            "learning_rate": self.trial.learning_rate * self.settings.rate(self.epoch * self.steps_per_epoch - 1, 0),
            "seconds_training": trained - started,
            "seconds_evaluation": time.perf_counter() - trained,
            "images_per_second": images / (trained - started),
        }
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)
        if self.objective_epoch() == self.epoch:
            self._predicted = logits, targets
        if self._best is not None and self.epoch == self.trial.epochs:
            self.network.load_state_dict(self._best, strict=False)
        return row

    def objective_epoch(self) -> int:
        """Return the 1-based epoch whose metrics and weights are the trial's result so far.

        It is the last epoch, or with the schedule ``constant`` the best one.
        """
        if self.trial.schedule != "constant":
            return self.epoch
        return 1 + self.history[self.metric].index(self.history["objective"][-1])

    def start_head(self) -> None:
        """Train the head on the features of the training images without augmentation; do nothing if it has been trained before.

        `run_epoch` calls this. Does nothing either without `head_epochs`, or if stages begin anew: they have no features to learn from.
        """
        if self.head_trained:
            return
        self.head_trained = True
        features, targets = self.evaluator.pooled_features(self.dataset.rows["train"])
        train_head(self.network, features, targets, self.settings.loss, self.trial, self._image_weights())

    def predict(self, split: str) -> tuple[Tensor, Tensor]:
        """Return the logits `(N, outputs)` and the targets of a split, in main memory.

        The processes of a world share the work. All must call this, and each gets the whole result.
        """
        return self.evaluator.predict(self.dataset.rows[split])

    def evaluate(self, split: str) -> dict[str, float]:
        """Return every metric of the task on a split, and `loss` without label smoothing, by name."""
        return self.score(*self.predict(split))

    def score(self, logits: Tensor, targets: Tensor) -> dict[str, float]:
        """Return every metric of the task, and `loss` without label smoothing, by name, for logits `(N, outputs)` and their targets."""
        return score(self.dataset.task, logits, targets, self.plain_loss, self.scale)

    def diagnostics(self) -> dict[str, Any] | None:
        """Return the diagnostics of the validation images at the `objective_epoch`; see `trainables.training.diagnostics.diagnose`.

        `epoch` is that epoch. After the last epoch, `interval` is the 95 % interval of the objective, or None for too few images.
        Returns None if this trainer did not train that epoch itself but was loaded later: the state does not hold predictions.
        """
        if self._predicted is None:
            return None
        logits, targets = self._predicted
        predictions = decode_predictions(self.dataset, "validation", logits, targets, self.scale)
        diagnostics = diagnose(predictions) | {"epoch": self.objective_epoch()}
        if self.epoch < self.trial.epochs:
            return diagnostics

        def metric_of(places: Tensor) -> float:
            return self.score(logits[places], targets[places])[self.metric]

        return diagnostics | {"interval": interval(self.history["objective"][-1], metric_of, len(targets))}

    def state(self) -> State:
        """Return what a trainer of the same configuration needs to continue, for `load`: trained tensors, optimizer, epoch, history.

        `network` holds what evaluation uses; with `ema`, `live` holds the weights that train. `scaler` holds how float16 scales the loss.
        After the last epoch these two, the optimizer's state and the best epoch's weights are None.
        """
        continues = self.epoch < self.trial.epochs
        return {
            "epoch": self.epoch,
            "network": self._trained(),
            "live": self.average.live if continues else None,
            "scaler": scaler.state_dict() if continues and (scaler := self.settings.precision.scaler) else None,
            "best": self._best if continues else None,
            "optimizer": self.optimizer.state_dict() if continues else None,
            "history": self.history,
        }

    def load(self, state: State) -> None:
        """Continue from a state that `state` returned: replace the trained tensors, the optimizer's state, the epoch and the history."""
        self.network.load_state_dict(state["network"], strict=False)
        if state["optimizer"] is not None:
            self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.history, self._best = state["epoch"], state["history"], state["best"]
        self.head_trained = self.head_trained or self.epoch > 0
        self.average.live = state.get("live")  # states of earlier versions have none
        if (scaler := self.settings.precision.scaler) and state.get("scaler"):
            scaler.load_state_dict(state["scaler"])
        self.network.thaw(self.epoch * self.steps_per_epoch > self.settings.thaw_step)

    def align(self) -> None:
        """Copy the network of rank 0 into those of the other ranks. Every process of the world must call this, once all are connected."""
        self.world.broadcast(self.network.state_dict().values())

    def export(self, location: str | Path) -> None:
        """Write the whole network and its description to a safetensors file; see `trainables.training.export.export_network`."""
        export_network(location, self.network, self.description())

    def description(self) -> dict[str, Any]:
        """Return what is needed to use the network; see `trainables.training.export.describe_network`."""
        return describe_network(self.dataset, self.trial, self.scale, self.network.head, self.provenance)

    def _loop_settings(self) -> LoopSettings:
        trial, steps = self.trial, self.steps_per_epoch * self.trial.epochs
        classes = len(self.dataset.classes) if self.dataset.task == "multiclass" else None
        return LoopSettings(
            loss=build_loss(
                self.dataset.task,
                trial.loss,
                label_smoothing=trial.label_smoothing,
                scale=self.scale,
                weights=self._class_weights(),
            ),
            rate=partial(learning_rate_factor, trial.schedule, trial.warmup, steps=steps),
            thaw_step=math.ceil(trial.freeze_steps * steps),
            clip_norm=trial.clip_norm,
            mix=Mixing(trial.mixup, trial.cutmix, classes=classes, seed=trial.seed),
            pull=PretrainedPull(self.optimizer, trial.l2_sp, new_stages=trial.reinit_stages),
            average=self.average,
            parts=MicroBatches(trial.accumulation),
            precision=precision_on(self.device),
            world=self.world,
            at_boundary=self.features is not None,
        )

    def _features(self, cache: ArrayCache | None, parts: Sequence[Rows] | None) -> Features | None:
        """Return what computes the activations behind the frozen stages for all trials, if this one uses them; see `uses_features`."""
        rows, trial = self.dataset.rows, self.trial
        if not uses_features(self.network, trial, len(rows["train"]), self.device):
            return None
        return Features(
            self.network,
            self.batches,
            precision_on(self.device),
            trial,
            cache or node_cache(),
            parts=parts or [rows[name] for name in PARTS],
            pixels=self.dataset.pixels_key,
            batch_size=largest_fitting_batch(self.network, trial.evaluation_size or trial.image_size, self.device),
        )

    def _training_targets(self) -> np.ndarray:
        return self.dataset.targets[self.dataset.rows["train"]]

    def _class_weights(self) -> Tensor | None:
        if self.trial.class_balance != "loss":
            return None
        return loss_weights(self.dataset.task, self._training_targets(), len(self.dataset.classes)).to(self.device)

    def _image_weights(self) -> Weights | None:
        return image_weights(self._training_targets()) if self.trial.class_balance == "sampling" else None

    def _train(self) -> tuple[float, int]:
        """Train one reported epoch without evaluation; return (mean training loss, images trained on), over all processes of the world."""
        trial, epoch = self.trial, self.epoch + 1
        self.start_head()
        torch.manual_seed(epoch_seed(trial.seed, epoch, self.world.rank))
        with self.average.training(self.world):
            self.world.broadcast(self.network.trained_state().values())  # CPUs of different models round differently
            first_step = self.epoch * self.steps_per_epoch
            return train_epoch(self.network, self.optimizer, self._training_batches(), self.settings, first_step=first_step)

    def _training_batches(self) -> Iterable[Batch]:
        """Return the batches of the next epoch: images, or activations if there are `features`."""
        trial, rows = self.trial, self.dataset.rows["train"]
        order: dict[str, Any] = {"epoch": self.epoch + 1, "passes": self.passes, "world": self.world, "weights": self._image_weights()}
        if self.features:
            return self.features.training(rows, count=len(self.dataset.images), **order)
        return self.batches.training(
            rows, trial.batch_size, strength=trial.augmentation_strength, ops=trial.augmentation_ops, seed=trial.seed, **order
        )

    def _recompute_statistics(self) -> None:
        self.evaluator.recompute_statistics(self.dataset.rows["train"], self.trial.seed)

    def _objective(self, value: float) -> float:
        """Return the objective of an epoch whose metric is `value`: `value` itself, or with schedule ``constant`` the best so far.

        With ``constant``, a value that is the best so far also copies the network's trained tensors to `_best`.
        """
        if self.trial.schedule != "constant":
            return value
        best = self.history["objective"][-1] if self.history else None
        if best is not None and not is_better(value, best, DIRECTIONS[self.metric]):
            return best
        self._best = self._trained()
        return value

    def _trained(self) -> dict[str, Tensor]:
        return {name: tensor.detach().cpu().clone() for name, tensor in self.network.trained_state().items()}


def _check_finite(metrics: dict[str, float]) -> None:
    if not_finite := ", ".join(name for name, value in metrics.items() if not math.isfinite(value)):
        raise NonFiniteError(f"on the validation images {not_finite} is not a finite number")


def epoch_seed(seed: int, epoch: int, rank: int) -> int:
    """Return the seed of torch's random numbers, such as those of dropout, in a 1-based epoch. It differs between processes.

    Rank 0 has the seed that a trial without replicas has.
    """
    return int(np.random.SeedSequence((seed, epoch, rank) if rank else (seed, epoch)).generate_state(1, np.uint64)[0] >> 1)

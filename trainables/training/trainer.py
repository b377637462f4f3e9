"""One trial, built from its configuration and carried from epoch to epoch."""

import json
import math
import time
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables.config import TrialConfig
from trainables.data.dataset import Dataset
from trainables.distributed.sync_batch_norm import synchronise
from trainables.distributed.world import ALONE, World
from trainables.errors import ConfigError, NonFiniteError
from trainables.images.batches import Batches
from trainables.networks.backbones import backbone, check_image_size
from trainables.networks.bodies import build_body
from trainables.networks.heads import build_head
from trainables.networks.model import SMALLEST_BATCH_FOR_STATISTICS, Network
from trainables.networks.weights import load_weights
from trainables.objectives import check_targets, objective
from trainables.recipe import passes_per_epoch
from trainables.training.checkpoint import State, export_weights
from trainables.training.diagnostics import interval, pictures, predictions
from trainables.training.loop import Autocast, predict, train_epoch
from trainables.training.optim import OPTIMIZERS, learning_rate_factor
from trainables.training.tasks import TASKS, TargetScale, build_loss, fit_target_scale, is_better, score

EVALUATION_BATCH = 128
IMAGES_FOR_STATISTICS = 1024


def set_threads(threads: int) -> None:
    """Let torch use this many processor threads; the same number gives the same bits."""
    torch.set_num_threads(threads)


def default_device() -> torch.device:
    """Return the GPU that this process may use, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Trainer:
    """A data set and a configuration, made into a network that trains one reported epoch at a time.

    Everything random is drawn from (seed, epoch, row), so a trainer that goes on from a state gives the very numbers of one that was
    never interrupted. In a `world` of several processes each has such a trainer, which trains on its part of every batch; a body's
    batch norm sees that part alone, or with `sync_batch_norm` all of them.
    Raises ``ConfigError``, ``DataError`` or ``WeightsError`` where the configuration does not fit the data.
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
    ) -> None:
        self.dataset, self.trial, self.device, self.world = dataset, trial, device or default_device(), world
        row, task = backbone(trial.backbone), TASKS[dataset.task]
        rows, targets = dataset.rows["train"], dataset.targets[dataset.rows["train"]]
        if trial.batch_size > max(2, len(rows) // 4):
            raise ConfigError(f"batch_size must be at most a quarter of the {len(rows)} training images but got {trial.batch_size}")
        _check_parts(trial, world)
        check_image_size(trial.backbone, trial.image_size)
        check_targets(dataset.task, trial.loss, trial.target, dataset.targets[np.concatenate(list(dataset.rows.values()))])
        self.metric = objective(dataset.task, targets, metric)

        self.scale = fit_target_scale(targets, trial.target) if dataset.task == "regression" else TargetScale()
        self.loss = build_loss(dataset.task, trial.loss, label_smoothing=trial.label_smoothing, scale=self.scale)
        self.plain_loss = build_loss(dataset.task, trial.loss, scale=self.scale)

        torch.manual_seed(trial.seed)
        body = build_body(trial.backbone)
        self.provenance = load_weights(body, trial.backbone, trial.weights)
        if sync_batch_norm and world.size > 1:
            synchronise(body)
        head = build_head(
            body.width,
            task.outputs(len(dataset.classes)),
            layers=trial.head_layers,
            units=trial.head_units,
            activation=trial.activation,
            dropout=trial.dropout,
            initializer=trial.initializer,
        )
        seen_by_batch_norm = trial.batch_size // (trial.accumulation * (1 if sync_batch_norm else world.size))
        self.network = Network(
            body,
            head,
            unfrozen_stages=trial.unfrozen_stages,
            batch_norm_trains=trial.weights == "none" or seen_by_batch_norm >= SMALLEST_BATCH_FOR_STATISTICS,
        ).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        groups = self.network.parameter_groups(trial.learning_rate, trial.stage_lr_decay, trial.weight_decay)
        self.optimizer = OPTIMIZERS[trial.optimizer](groups, trial.momentum)

        self.batches = Batches(
            dataset.images, dataset.targets, image_size=trial.image_size, mean=row.mean, std=row.std, device=self.device, workers=workers
        )
        self.passes = passes_per_epoch(len(rows), trial.batch_size)
        self.steps_per_epoch = self.passes * (len(rows) // trial.batch_size)
        self.epoch = 0
        self.history: dict[str, list[float]] = {}
        self._best: dict[str, Tensor] | None = None
        self._judged: tuple[Tensor, Tensor] | None = None

    def run_epoch(self) -> dict[str, float]:
        """Train one reported epoch, evaluate on the validation images, and return every metric of it.

        Besides the task's metrics: `objective`, `train_loss`, `learning_rate` (of the head, at the epoch's end), `seconds_training`,
        `seconds_evaluation`, `images_per_second`. The objective is this epoch's metric; only where the rate is constant it is the best
        epoch's, whose weights the trial ends with. Raises ``NonFiniteError``.
        """
        trial, steps = self.trial, self.steps_per_epoch * self.trial.epochs
        started = time.perf_counter()
        torch.manual_seed(_epoch_seed(trial.seed, self.epoch + 1, self.world.rank))
        self.world.broadcast(self.network.trained_state().values())  # unlike processors round unlike
        batches = self.batches.training(
            self.dataset.rows["train"],
            trial.batch_size,
            strength=trial.augmentation_strength,
            ops=trial.augmentation_ops,
            seed=trial.seed,
            epoch=self.epoch + 1,
            passes=self.passes,
            world=self.world,
        )
        rate = partial(self._rate, steps=steps)
        train_loss, images = train_epoch(
            self.network,
            self.optimizer,
            batches,
            self.loss,
            first_step=self.epoch * self.steps_per_epoch,
            rate=rate,
            thaw_step=math.ceil(trial.freeze_steps * steps),
            clip_norm=trial.clip_norm,
            accumulation=trial.accumulation,
            autocast=self._autocast,
            world=self.world,
        )
        trained = time.perf_counter()
        self.recompute_statistics()
        logits, targets = self.predict("validation")
        metrics = self.score(logits, targets)
        if not all(map(math.isfinite, metrics.values())):
            bad = ", ".join(name for name, value in metrics.items() if not math.isfinite(value))
            raise NonFiniteError(f"on the validation images {bad} is not a finite number")
        self.epoch += 1
        row = metrics | {
            "objective": self._objective(metrics[self.metric]),
            "train_loss": train_loss,
            "learning_rate": trial.learning_rate * rate(self.epoch * self.steps_per_epoch - 1),
            "seconds_training": trained - started,
            "seconds_evaluation": time.perf_counter() - trained,
            "images_per_second": images / (trained - started),
        }
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)
        if self.objective_epoch() == self.epoch:
            self._judged = logits, targets
        if self._best is not None and self.epoch == trial.epochs:
            self.network.load_state_dict(self._best, strict=False)
        return row

    def objective_epoch(self) -> int:
        """Return the 1-based epoch whose metrics and weights stand for the trial so far."""
        if self.trial.schedule != "constant":
            return self.epoch
        return 1 + self.history[self.metric].index(self.history["objective"][-1])

    def recompute_statistics(self) -> None:
        """Recompute the statistics of unfrozen batch norm on up to 1,024 unaugmented training images, evenly spread over the set."""
        rows = self.dataset.rows["train"]
        chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), IMAGES_FOR_STATISTICS)).astype(np.int64)]
        alike = math.ceil(len(chosen) / math.ceil(len(chosen) / EVALUATION_BATCH))  # a small last batch would weigh as much as a full one
        batches = [chosen[start : start + alike] for start in range(0, len(chosen), alike)][self.world.rank :: self.world.size]
        self.network.recompute_statistics((images for batch in batches for images, _ in self.batches.evaluation(batch, alike)), self.world)

    def predict(self, split: str) -> tuple[Tensor, Tensor]:
        """Return logits `(N, outputs)` and targets of a split."""
        rows = self.dataset.rows[split]
        logits, targets = predict(self.network, self.batches.evaluation(self.world.share(rows), EVALUATION_BATCH), self._autocast)
        return self.world.gather(logits, len(rows)), self.world.gather(targets, len(rows))

    def evaluate(self, split: str) -> dict[str, float]:
        """Return every metric of the task on a split."""
        return self.score(*self.predict(split))

    def score(self, logits: Tensor, targets: Tensor) -> dict[str, float]:
        """Return every metric of the task for logits `(N, outputs)`; `loss` is plain, without label smoothing."""
        return score(self.dataset.task, logits, targets, self.plain_loss, self.scale)

    def pictures(self) -> dict[str, Any] | None:
        """Return what the network that stands for the trial so far makes of the validation images; see `trainables.training.diagnostics`.

        `epoch` is that network's, and once the trial has ended `interval` is the 95 % interval of its objective. None where another
        process has trained it.
        """
        if self._judged is None:
            return None
        logits, targets = self._judged
        drawn = pictures(predictions(self.dataset, "validation", logits, targets, self.scale)) | {"epoch": self.objective_epoch()}
        if self.epoch < self.trial.epochs:
            return drawn

        def judge(places: Tensor) -> float:
            return self.score(logits[places], targets[places])[self.metric]

        return drawn | {"interval": interval(self.history["objective"][-1], judge, len(targets))}

    def state(self) -> State:
        """Return what a trainer of the same configuration needs to go on. The optimizer's state ends with the last epoch."""
        return {
            "epoch": self.epoch,
            "network": self._trained(),
            "best": self._best if self.epoch < self.trial.epochs else None,
            "optimizer": self.optimizer.state_dict() if self.epoch < self.trial.epochs else None,
            "history": self.history,
        }

    def load(self, state: State) -> None:
        """Go on from a state."""
        self.network.load_state_dict(state["network"], strict=False)
        if state["optimizer"] is not None:
            self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.history, self._best = state["epoch"], state["history"], state["best"]
        self.network.thaw(self.epoch * self.steps_per_epoch > math.ceil(self.trial.freeze_steps * self.steps_per_epoch * self.trial.epochs))

    def align(self) -> None:
        """Take the network of rank 0, in a world of several processes that have met; all do it at the same time."""
        self.world.broadcast(self.network.state_dict().values())

    def export(self, location: str | Path) -> None:
        """Write the whole network as safetensors: the body under torchvision's own names, the head under ``head.``.

        The file's metadata holds the description, whatever is not text as JSON.
        """
        state = {name.removeprefix("body.trunk."): tensor for name, tensor in self.network.state_dict().items()}
        tensors = {name: tensor for name, tensor in state.items() if not name.startswith("body.")}
        about = {name: value if isinstance(value, str) else json.dumps(value) for name, value in self.description().items()}
        export_weights(location, tensors, {"format": "pt", **about})

    def description(self) -> dict[str, Any]:
        """Return what a reader must know to use the network: what an image goes through before it, and what its outputs mean."""
        row, trial = backbone(self.trial.backbone), self.trial
        return {
            "backbone": trial.backbone,
            "task": self.dataset.task,
            "classes": list(self.dataset.classes),
            "fingerprint": self.dataset.fingerprint,
            "head": {"layers": trial.head_layers, "units": trial.head_units, "activation": trial.activation, "dropout": trial.dropout},
            "preprocessing": {
                "square": int(self.dataset.images.shape[1]),
                "aspect": trial.aspect,
                "center_crop": trial.image_size,
                "mean": list(row.mean),
                "std": list(row.std),
            },
            "scale": asdict(self.scale),
        }

    def _objective(self, value: float) -> float:
        if self.trial.schedule != "constant":
            return value
        best = self.history["objective"][-1] if self.history else None
        if best is not None and not is_better(self.metric, value, best):
            return best
        self._best = self._trained()
        return value

    def _trained(self) -> dict[str, Tensor]:
        return {name: tensor.detach().cpu().clone() for name, tensor in self.network.trained_state().items()}

    def _rate(self, step: int, steps: int) -> float:
        return learning_rate_factor(self.trial.schedule, self.trial.warmup, step, steps)

    @property
    def _autocast(self) -> Autocast:
        if self.device.type == "cuda" and torch.cuda.is_bf16_supported():
            return lambda: torch.autocast("cuda", torch.bfloat16)
        return nullcontext


def _check_parts(trial: TrialConfig, world: World) -> None:
    parts = trial.accumulation * world.size
    if world.size > 1 and trial.batch_size % parts:
        fitting = max(parts, trial.batch_size - trial.batch_size % parts)
        raise ConfigError(
            f"batch_size must be a multiple of accumulation × replicas ({trial.accumulation} × {world.size}) but got {trial.batch_size}; "
            f"take {fitting}, say, or another number of GPUs for a trial"
        )


def _epoch_seed(seed: int, epoch: int, rank: int) -> int:
    """Return the seed of an epoch's dropout: each replica has its own, the first one that of a trial without replicas."""
    return int(np.random.SeedSequence((seed, epoch, rank) if rank else (seed, epoch)).generate_state(1, np.uint64)[0] >> 1)

"""One trial in several processes, each with a GPU of its own: the trial's own process is rank 0, replicas are the other ranks.

Ray starts the replicas in the trial's placement group, tells them what to do, and notices when one dies; what they exchange goes
directly between them (see `trainables.distributed.world`).
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util import get_node_ip_address
from ray.util.placement_group import PlacementGroup, get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from trainables.distributed.world import TIMEOUT, World, interrupt, join, leave, listen, visit
from trainables.errors import ConfigError
from trainables.worker.node_usage import worker
from trainables.worker.trainable import Assignment, Effort, begin, failure_kind, free_memory, peak_memory

if TYPE_CHECKING:
    from trainables.training.trainer import Trainer

PATIENCE = 20.0
"""Seconds in which a replica that has lost the others, or is asked to leave them, must have answered."""
LONGEST = 300
"""Letters of another's account of an error that a message holds."""


class ReplicaError(RuntimeError):
    """A replica has died, or the way to it is lost: another try may help."""


class Replica:
    """What runs in a replica's process, at the word of `Replicas`."""

    def __init__(self) -> None:
        self._trainer: Trainer | None = None

    def begin(self, assignment: dict[str, Any], rank: int) -> tuple[str, int]:
        """Build the trainer from this node's cache and the trial's state; return this process's name and the epochs that are done."""
        job = Assignment.model_validate(assignment)
        self._trainer, _ = begin(job, start_over=True, world=World(rank, job.replicas))
        return worker(), self._trainer.epoch

    def join(self, address: str, port: int) -> None:
        """Meet the others and take rank 0's network."""
        with self._together() as trainer:
            join(trainer.world, visit(address, port, trainer.world), get_node_ip_address(), cuda=trainer.device.type == "cuda")
            trainer.align()

    def run_epoch(self) -> int:
        """Train one epoch with the others; return the largest memory that this process held, bytes."""
        with self._together() as trainer:
            trainer.run_epoch()
            return peak_memory()

    def leave(self) -> None:
        """Forget the trial; the process and its imports stay."""
        leave()
        self._trainer = None
        free_memory()

    @contextmanager
    def _together(self) -> "Iterator[Trainer]":
        """Whatever goes wrong here ends the connections: the others, who would wait, hear of it."""
        if self._trainer is None:
            raise ReplicaError("a replica has no trial to go on with: its process is a new one")
        try:
            yield self._trainer
        except BaseException:
            leave(failed=True)
            raise


class Replicas:
    """Rank 0's hold on the other ranks, for one trial after another. Raises ``ConfigError`` where its placement group is too small."""

    def __init__(self, size: int) -> None:
        self.size, self.peak_memory = size, 0
        self.names: list[str] = []
        group = get_current_placement_group()
        bundles = group.bundle_specs if group is not None else []
        if group is None or len(bundles) < size:
            raise ConfigError(
                f"a trial of {size} replicas needs a placement group of {size} bundles but has {len(bundles)}; "
                f"run it with tune.PlacementGroupFactory([{{'CPU': 1, 'GPU': 1}}] * {size}) as its resources"
            )
        self._actors = [_start(group, index, bundles[index]) for index in range(1, size)]

    def begin(self, assignment: Assignment) -> "tuple[Trainer, Effort]":
        """Build every rank's trainer and connect them; return rank 0's, and what the trial has cost already."""
        job, world = assignment.model_dump(mode="json"), World(0, self.size)
        building = [actor.begin.remote(job, rank) for rank, actor in enumerate(self._actors, 1)]
        trainer, effort = begin(assignment, start_over=True, world=world)
        found = [_outcome(task) for task in building]  # a first start may decode the data set, however long that takes
        self.names, self.peak_memory = [name for name, _ in found], 0
        if strays := [f"{name} from epoch {epoch}" for name, epoch in found if epoch != trainer.epoch]:
            raise ReplicaError(f"the trial goes on from epoch {trainer.epoch}, but {', '.join(strays)}: they read another state")
        address, cuda = get_node_ip_address(), trainer.device.type == "cuda"
        store = listen(address, world)

        def meet() -> None:
            join(world, store, address, cuda=cuda)
            trainer.align()

        self._together(meet, [actor.join.remote(address, store.port) for actor in self._actors])
        return trainer, effort

    def run_epoch(self, trainer: "Trainer") -> None:
        """Train one epoch on all ranks. Raises what has gone wrong on any of them; their trainers are of no use then."""
        peaks = self._together(trainer.run_epoch, [actor.run_epoch.remote() for actor in self._actors])
        self.peak_memory = max(self.peak_memory, *peaks)

    def rest(self) -> bool:
        """Let all ranks leave the trial, and say whether their processes are there for the next; else they are ended."""
        leaving = [actor.leave.remote() for actor in self._actors]
        with suppress(Exception):
            leave()
            ray.get(leaving, timeout=PATIENCE)
            return True
        self.close()
        return False

    def close(self) -> None:
        """End the replicas' processes."""
        leave(failed=True)
        for actor in self._actors:
            ray.kill(actor)

    def _together(self, own: Callable[[], object], others: list[Any]) -> list[Any]:
        """Do rank 0's part while the others do theirs, and return what they give."""
        over = threading.Event()
        threading.Thread(target=_watch, args=(others, over), daemon=True).start()
        try:
            own()
        except Exception as error:
            over.set()
            leave(failed=True)
            if failure_kind(error) is not None:
                raise
            raise _cause(others, error) from error
        finally:
            over.set()
        return [_outcome(task, TIMEOUT.total_seconds()) for task in others]


def _start(group: PlacementGroup, index: int, bundle: dict[str, float]) -> Any:
    """Start a replica that takes the whole of a bundle."""
    options = {"num_cpus": bundle.get("CPU", 0), "num_gpus": bundle.get("GPU", 0), "memory": bundle.get("memory")}
    others = {name: amount for name, amount in bundle.items() if name not in ("CPU", "GPU", "memory")}
    place = PlacementGroupSchedulingStrategy(placement_group=group, placement_group_bundle_index=index)
    return ray.remote(Replica).options(scheduling_strategy=place, resources=others, **options).remote()


def _watch(tasks: list[Any], over: threading.Event) -> None:
    """End the exchange that rank 0 waits in when a replica fails: NCCL would wait for it until its time is up."""
    waiting = tasks
    while waiting and not over.is_set():
        ready, waiting = ray.wait(waiting, timeout=1.0)
        if any(isinstance(_failure(task), Exception) for task in ready) and not over.is_set():
            interrupt()
            return


def _failure(task: Any, seconds: float | None = None) -> Exception | None:
    """Return why a replica did not do its part, None where it did."""
    try:
        ray.get(task, timeout=seconds)
    except RayTaskError as error:
        return error.cause if isinstance(error.cause, Exception) else ReplicaError(_line(error))
    except RayError as error:
        return ReplicaError(f"a replica is lost ({type(error).__name__}): {_line(error)}")
    return None


def _outcome(task: Any, seconds: float | None = None) -> Any:
    """Return what a replica gives; raises its own error, and ``ReplicaError`` if it is lost."""
    if failure := _failure(task, seconds):
        raise failure
    return ray.get(task)


def _cause(tasks: list[Any], error: Exception) -> Exception:
    """Return why rank 0 has met an error while the replicas did their part: one of theirs that no other try can mend, else all of them."""
    ray.wait(tasks, num_returns=len(tasks), timeout=PATIENCE)
    failures = [failure for task in tasks if (failure := _failure(task, 0))]
    told = "; ".join(_line(failure) for failure in (*failures, error))
    return next((failure for failure in failures if failure_kind(failure)), ReplicaError(f"the exchange with the replicas broke: {told}"))


def _line(error: BaseException) -> str:
    """Return what an error says, in a line that a table can show."""
    text = " ".join(str(error).split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"

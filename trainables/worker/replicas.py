"""Trains one trial in several processes, each with its own GPU: the trial's process is rank 0, the replicas are the other ranks.

Ray starts the replicas in the trial's placement group, calls their methods, and notices when one dies. Gradients and statistics do not
pass through Ray: the processes exchange them directly (see `trainables.distributed.world`).
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

from trainables.distributed.rendezvous import TIMEOUT, abort_exchange, connect_store, join_process_group, leave_process_group, open_store
from trainables.distributed.world import World
from trainables.errors import ConfigError
from trainables.storage.saved_states import SavedStates
from trainables.worker.assignment import Assignment
from trainables.worker.failures import failure_kind, one_line
from trainables.worker.memory import free_memory, peak_memory
from trainables.worker.node_usage import worker_name
from trainables.worker.trial_state import WorkDone, build_trainer

if TYPE_CHECKING:
    from trainables.training.trainer import Trainer

ANSWER_SECONDS = 20.0
"""How long rank 0 waits for the answer of a replica that has lost its connections, or that is asked to leave them."""


class ReplicaError(RuntimeError):
    """A replica has died or cannot be reached; another attempt may work."""


class Replica:
    """The Ray actor in which a rank above 0 trains; `Replicas` calls its methods."""

    def __init__(self) -> None:
        self._trainer: Trainer | None = None

    def build_trainer(self, assignment: dict[str, Any], rank: int) -> tuple[str, int]:
        """Build this rank's trainer from the node's cache and the trial's saved state, see `build_trainer`.

        Returns this process's name and how many epochs the trainer has done.
        """
        job = Assignment.model_validate(assignment)
        self._trainer, _ = build_trainer(job, SavedStates(job.folder), fall_back=True, world=World(rank, job.replicas))
        return worker_name(), self._trainer.epoch

    def connect(self, address: str, port: int) -> None:
        """Connect to the other ranks through rank 0's store at this address and port, and copy rank 0's network into the trainer."""
        with self._disconnect_on_error() as trainer:
            store = connect_store(address, port, trainer.world)
            join_process_group(trainer.world, store, get_node_ip_address(), cuda=trainer.device.type == "cuda")
            trainer.align()

    def run_epoch(self) -> int:
        """Train one epoch with the other ranks; return the most memory that this process has held, bytes, see `peak_memory`."""
        with self._disconnect_on_error() as trainer:
            trainer.run_epoch()
            return peak_memory()

    def release(self) -> None:
        """Disconnect from the other ranks and free the trainer; keep the process and its imports for the next trial."""
        leave_process_group()
        self._trainer = None
        free_memory()

    @contextmanager
    def _disconnect_on_error(self) -> "Iterator[Trainer]":
        """Give the trainer. After an error in the block, disconnect: the other ranks, which wait for this one, then get an error as well.

        Raises the block's error, and ``ReplicaError`` if there is no trainer, because Ray has restarted this process.
        """
        if self._trainer is None:
            raise ReplicaError("this replica has no trial: its process has been restarted")
        try:
            yield self._trainer
        except BaseException:
            leave_process_group(failed=True)
            raise


class Replicas:
    """Rank 0's connection to the other ranks: starts `size` - 1 `Replica` actors, which train one trial after another.

    `names` are the names of their processes, `peak_memory` is the most that one of them has held in this trial, bytes.
    Raises ``ConfigError`` if the process is in no placement group of at least `size` bundles.
    """

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

    def build_trainers(self, assignment: Assignment, states: SavedStates) -> "tuple[Trainer, WorkDone]":
        """Build the trainers of all ranks, connect the ranks, and return rank 0's trainer, loaded from `states`, and the work done so far.

        Raises the error of any rank, and ``ReplicaError`` if a replica is lost or has loaded another epoch's state than rank 0.
        """
        job, world = assignment.model_dump(mode="json"), World(0, self.size)
        building = [actor.build_trainer.remote(job, rank) for rank, actor in enumerate(self._actors, 1)]
        trainer, work = build_trainer(assignment, states, fall_back=True, world=world)
        built = [_result(task) for task in building]  # no time limit: a node's first trainer may have to decode the data set
        self.names, self.peak_memory = [name for name, _ in built], 0
        if different := [f"{name} from epoch {epoch}" for name, epoch in built if epoch != trainer.epoch]:
            raise ReplicaError(f"the trial goes on from epoch {trainer.epoch}, but {', '.join(different)}: they read another state")
        address, cuda = get_node_ip_address(), trainer.device.type == "cuda"
        store = open_store(address, world)

        def connect() -> None:
            join_process_group(world, store, address, cuda=cuda)
            trainer.align()

        self._run_on_all_ranks(connect, [actor.connect.remote(address, store.port) for actor in self._actors])
        return trainer, work

    def run_epoch(self, trainer: "Trainer") -> None:
        """Train one epoch on all ranks; `trainer` is rank 0's.

        Raises the error of any rank. None of the trainers can be used after that.
        """
        peaks = self._run_on_all_ranks(trainer.run_epoch, [actor.run_epoch.remote() for actor in self._actors])
        self.peak_memory = max(self.peak_memory, *peaks)

    def release(self) -> bool:
        """Make all ranks disconnect and the replicas free their trainers.

        Returns True if the replicas are ready for the next trial. If one fails or takes over 20 s, ends their processes and returns False.
        """
        releasing = [actor.release.remote() for actor in self._actors]
        with suppress(Exception):
            leave_process_group()
            ray.get(releasing, timeout=ANSWER_SECONDS)
            return True
        self.close()
        return False

    def close(self) -> None:
        """Disconnect rank 0 and end the replicas' processes, whatever they are doing."""
        leave_process_group(failed=True)
        for actor in self._actors:
            ray.kill(actor)

    def _run_on_all_ranks(self, rank_0: Callable[[], object], replicas: list[Any]) -> list[Any]:
        """Call `rank_0` while the `replicas`, Ray tasks that have been started, run; return the results of the tasks.

        If rank 0 fails, disconnects it, and raises its error if that ends the trial for good, else what `_cause` returns.
        If only a replica fails, raises as `_result` does.
        """
        over = threading.Event()
        threading.Thread(target=_abort_on_failure, args=(replicas, over), daemon=True).start()
        try:
            rank_0()
        except Exception as error:
            over.set()
            leave_process_group(failed=True)
            if failure_kind(error) is not None:
                raise
            raise _cause(replicas, error) from error
        finally:
            over.set()
        return [_result(task, TIMEOUT.total_seconds()) for task in replicas]


def _start(group: PlacementGroup, index: int, bundle: dict[str, float]) -> Any:
    """Start a `Replica` that takes all resources of the placement group's bundle number `index`, and return its actor handle."""
    options = {"num_cpus": bundle.get("CPU", 0), "num_gpus": bundle.get("GPU", 0), "memory": bundle.get("memory")}
    others = {name: amount for name, amount in bundle.items() if name not in ("CPU", "GPU", "memory")}
    place = PlacementGroupSchedulingStrategy(placement_group=group, placement_group_bundle_index=index)
    return ray.remote(Replica).options(scheduling_strategy=place, resources=others, **options).remote()


def _abort_on_failure(tasks: list[Any], over: threading.Event) -> None:
    """Wait until all tasks are done or `over` is set. If a task fails before, end the exchange that rank 0 waits in.

    NCCL would otherwise wait until its time limit. Runs in a thread of its own.
    """
    waiting = tasks
    while waiting and not over.is_set():
        ready, waiting = ray.wait(waiting, timeout=1.0)
        if any(isinstance(_failure(task), Exception) for task in ready) and not over.is_set():
            abort_exchange()
            return


def _failure(task: Any, seconds: float | None = None) -> Exception | None:
    """Return the error of a replica's task, or None if it succeeded: the error that its code raised, or ``ReplicaError`` if it is lost.

    Waits at most `seconds`, by default without limit; a task that takes longer counts as lost.
    """
    try:
        ray.get(task, timeout=seconds)
    except RayTaskError as error:
        return error.cause if isinstance(error.cause, Exception) else ReplicaError(one_line(error))
    except RayError as error:
        return ReplicaError(f"a replica is lost ({type(error).__name__}): {one_line(error)}")
    return None


def _result(task: Any, seconds: float | None = None) -> Any:
    """Return the result of a replica's task. Raises the error that `_failure` returns, after at most `seconds`."""
    if failure := _failure(task, seconds):
        raise failure
    return ray.get(task)


def _cause(tasks: list[Any], error: Exception) -> Exception:
    """Return the error to raise when rank 0 has failed with `error` while the replicas ran these tasks.

    It is a replica's own error if that ends the trial for good (see `failure_kind`), else a ``ReplicaError`` with all messages.
    """
    ray.wait(tasks, num_returns=len(tasks), timeout=ANSWER_SECONDS)
    failures = [failure for task in tasks if (failure := _failure(task, 0))]
    permanent = next((failure for failure in failures if failure_kind(failure)), None)
    messages = "; ".join(one_line(failure) for failure in (*failures, error))
    return permanent or ReplicaError(f"the exchange with the replicas broke: {messages}")

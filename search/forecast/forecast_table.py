"""What `injerto plan` shows: a bar while it measures, then a table of what a search will take."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from search.forecast.forecast import RUNG_SHARE, Forecast
from search.formatting import duration, number
from search.plan import Plan
from trainables.storage.cache import cache_root, show_bytes


@contextmanager
def measuring(console: Console, seconds: float) -> Iterator[Callable[[float, int], None]]:
    """Give what hears the seconds spent and the configurations measured; a bar on a terminal, a line elsewhere."""
    if not console.is_terminal:
        console.print(f"measuring for about {duration(seconds)}", soft_wrap=True)
        yield lambda spent, measured: None
        return
    columns = TextColumn("measuring"), BarColumn(), TextColumn("{task.fields[measured]} configurations, {task.fields[left]}")
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("measuring", total=seconds, measured=0, left="the workers start")

        def told(spent: float, measured: int) -> None:
            left = f"about {duration(seconds - spent)} left" if spent < seconds else "the last ones end"
            progress.update(bar, completed=min(spent, seconds), measured=measured, left=left)

        yield told


def table(found: Forecast) -> Table:
    """Return what a search will take as a table."""
    drawn = Table(box=None, pad_edge=False, show_header=False)
    drawn.add_column(style="dim", no_wrap=True)
    drawn.add_column()
    for name, words in rows(found).items():
        drawn.add_row(name, escape(words))
    return drawn


def rows(found: Forecast) -> dict[str, str]:
    """Return the lines of the table, in a person's units."""
    failed = f"; {found.failed} more failed, as they would in a search" if found.failed else ""
    slow, fast = (number(rate) for rate in found.trials_per_hour)
    few, many = found.trials
    time = found.time
    wanted = f"{found.budget_trials} trials" if few >= found.budget_trials else f"{_span(few, many)} of {found.budget_trials} trials"
    free = f", {show_bytes(found.disk_free_bytes)} free" if found.disk_free_bytes is not None else ", in a bucket"
    gpu = f"; {show_bytes(found.gpu_bytes)} of a GPU's {show_bytes(found.machine_gpu_bytes)} for each" if found.machine_gpu_bytes else ""
    return {
        "measured": f"{found.measured} configurations, {found.slots} at a time{failed}",
        "the default recipe": f"{duration(found.default_seconds)}, all its epochs",
        "a trial": f"{duration(found.mean_seconds)} on average, all its epochs",
        "trials an hour": slow if slow == fast else f"{slow} to {fast}, as rungs stop more of them",
        "the search": f"{wanted} in {duration(time.middle)}, between {duration(time.low)} and {duration(time.high)}",
        "disk": f"{show_bytes(found.disk_bytes)}{free}; a state {show_bytes(found.state_bytes)}",
        "decoded images": f"{show_bytes(found.cache_bytes)} in {cache_root()}",
        "memory": f"{show_bytes(found.memory_bytes)} of {show_bytes(found.machine_memory_bytes)}{gpu}",
    }


def show(console: Console, plan: Plan, found: Forecast) -> None:
    """Print what a search will take."""
    data = plan.dataset
    console.print(f"{data.task} on images of {data.image_size} px, by {plan.metric} ({plan.mode})", soft_wrap=True)
    for note in data.notes:
        console.print(escape(note), soft_wrap=True)
    console.print(table(found), soft_wrap=True)
    lower = f"where rungs leave {RUNG_SHARE:.0%} of the epochs" if found.rungs else "where most are short"
    console.print(
        f"Four in five such searches end between the two times, the lower {lower}, the higher where every trial is whole.", soft_wrap=True
    )


def _span(few: int, many: int) -> str:
    return str(few) if few == many else f"{few} to {many}"

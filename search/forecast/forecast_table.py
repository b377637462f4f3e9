"""Shows what ``injerto plan`` prints: a progress bar while it measures, then a table of what a search will take."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from search.forecast.forecast import Forecast
from search.forecast.measurement import OnMeasurement
from search.forecast.time_left import SHARE_WITH_RUNGS
from search.formatting import duration, number
from search.plan import Plan
from trainables.storage.byte_sizes import show_bytes
from trainables.storage.cache import cache_root


@contextmanager
def measurement_progress(console: Console, seconds: float) -> Iterator[OnMeasurement]:
    """Give a callback that shows the progress of a measurement of `seconds`: a bar on a terminal, one line elsewhere."""
    if not console.is_terminal:
        console.print(f"measuring for about {duration(seconds)}", soft_wrap=True)
        yield lambda spent, measured: None
        return
    columns = TextColumn("measuring"), BarColumn(), TextColumn("{task.fields[measured]} configurations, {task.fields[left]}")
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("measuring", total=seconds, measured=0, left="the workers start")

        def on_measurement(spent: float, measured: int) -> None:
            left = f"about {duration(seconds - spent)} left" if spent < seconds else "the last ones end"
            progress.update(bar, completed=min(spent, seconds), measured=measured, left=left)

        yield on_measurement


def forecast_rows(forecast: Forecast) -> dict[str, str]:
    """Return the rows of the table: the name of each → its text, with units for a user."""
    failed = f"; {forecast.failed} more failed, as they would in a search" if forecast.failed else ""
    slow, fast = (number(rate) for rate in forecast.trials_per_hour)
    fewest, most = forecast.trials
    time, budget = forecast.time, forecast.budget_trials
    trials = f"{budget} trials" if fewest >= budget else f"{_range(fewest, most)} of {budget} trials"
    free = f", {show_bytes(forecast.disk_free_bytes)} free" if forecast.disk_free_bytes is not None else ", in a bucket"
    machine_gpu = forecast.machine_gpu_bytes
    gpu = f"; {show_bytes(forecast.gpu_bytes)} of a GPU's {show_bytes(machine_gpu)} for each" if machine_gpu else ""
    return {
        "measured": f"{forecast.measured} configurations, {forecast.slots} at a time{failed}",
        "the default recipe": f"{duration(forecast.default_seconds)}, all its epochs",
        "a trial": f"{duration(forecast.mean_seconds)} on average, all its epochs",
        "trials an hour": slow if slow == fast else f"{slow} to {fast}, as rungs stop more of them",
        "the search": f"{trials} in {duration(time.middle)}, between {duration(time.low)} and {duration(time.high)}",
        "disk": f"{show_bytes(forecast.disk_bytes)}{free}; a state {show_bytes(forecast.state_bytes)}",
        "decoded images": f"{show_bytes(forecast.cache_bytes)} in {cache_root()}",
        "memory": f"{show_bytes(forecast.memory_bytes)} of {show_bytes(forecast.machine_memory_bytes)}{gpu}",
    }


def print_forecast(console: Console, plan: Plan, forecast: Forecast) -> None:
    """Print the data set, the table of what a search will take, and what the two ends of its time mean."""
    data = plan.dataset
    console.print(f"{data.task} on images of {data.image_size} px, by {plan.metric} ({plan.mode})", soft_wrap=True)
    for note in data.notes:
        console.print(escape(note), soft_wrap=True)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, text in forecast_rows(forecast).items():
        table.add_row(name, escape(text))
    console.print(table, soft_wrap=True)
    lower = f"rungs stop trials after {SHARE_WITH_RUNGS:.0%} of their epochs on average" if forecast.rungs else "most trials are short"
    console.print(
        f"80% of such searches end between the two times. The lower one assumes that {lower}, the higher one that no trial is stopped.",
        soft_wrap=True,
    )


def _range(fewest: int, most: int) -> str:
    return str(fewest) if fewest == most else f"{fewest} to {most}"

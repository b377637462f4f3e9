"""The first start on a data set, which decodes its images, against the second, which reads them from the cache; in one run.

python tests/benchmarks/decode.py FOLDER [--json FILE]
"""

import os
import tempfile
import time
from pathlib import Path

import typer

from tests.benchmarks.report import JsonFile, report_json


def main(folder: Path, json_file: JsonFile = None) -> None:
    """Measure the seconds of both starts in a process that has imported what it needs."""
    from trainables.data.dataset import prepare

    with tempfile.TemporaryDirectory() as cache:
        os.environ["INJERTO_CACHE"] = cache
        seconds = []
        for _ in range(2):
            started = time.perf_counter()
            dataset = prepare(source=str(folder))
            seconds.append(round(time.perf_counter() - started, 3))
    figures = {"data": folder.name, "images": len(dataset.targets), "image_size": dataset.image_size, "first_seconds": seconds[0]}
    report_json(figures | {"second_seconds": seconds[1], "ratio": round(seconds[0] / seconds[1], 1)}, json_file)


if __name__ == "__main__":
    typer.run(main)

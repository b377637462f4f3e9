"""Decoding once: a data set's first start against its second, in one run.

python tests/benchmarks/decode.py FOLDER [--json FILE]
"""

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer


def main(folder: Path, json_file: Annotated[Path | None, typer.Option("--json")] = None) -> None:
    """Print and write the seconds of both starts, each in a process that has imported what it needs."""
    from trainables.data.dataset import prepare

    with tempfile.TemporaryDirectory() as cache:
        os.environ["INJERTO_CACHE"] = cache
        seconds = []
        for _ in range(2):
            started = time.perf_counter()
            dataset = prepare(source=str(folder))
            seconds.append(round(time.perf_counter() - started, 3))
    result = {"data": folder.name, "images": len(dataset.targets), "image_size": dataset.image_size, "first_seconds": seconds[0]}
    result |= {"second_seconds": seconds[1], "ratio": round(seconds[0] / seconds[1], 1)}
    print(json.dumps(result, indent=2))
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    typer.run(main)

"""What the tests ask of every node."""

import os
import time

from trainables.errors import DataError


def process():
    return os.getpid()


def refuse():
    raise DataError("no such image; mend the data")


def slow():
    time.sleep(30)


def leave():
    os._exit(3)

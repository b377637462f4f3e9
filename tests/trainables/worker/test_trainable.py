import subprocess
import sys

import pytest

from tests.paths import REPOSITORY


@pytest.mark.parametrize("module", ["assignment", "trainable", "simulated_trial", "trial_report"])
def test_modules_that_the_driver_imports_do_not_import_torch(module):
    heavy = ("torch", "torchvision", "albumentations")
    code = f"import sys, trainables.worker.{module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

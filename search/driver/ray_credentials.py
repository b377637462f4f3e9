"""Ray Tune would hand the driver's bucket credentials to every trial as a runtime environment, which Ray writes into its logs."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

SECRET = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN")
"""What is not passed on: nodes have credentials of their own, and the preflight finds those that have none."""


@contextmanager
def credentials_withheld() -> Iterator[None]:
    """Run trials without passing credentials to them."""
    from ray.tune.execution import class_cache

    with patch.object(class_cache, "ENV_VARS_TO_PROPAGATE", set(class_cache.ENV_VARS_TO_PROPAGATE) - set(SECRET)):
        yield

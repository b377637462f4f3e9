from pathlib import Path

import pytest

from tests.paths import REPOSITORY, real_data_folder


@pytest.mark.parametrize("environment", [{}, {"INJERTO_TEST_DATA": ""}])
def test_real_data_is_beside_the_checkout_by_default(environment):
    assert real_data_folder(environment) == REPOSITORY.parent / "shared" / "data"


def test_real_data_is_where_the_environment_says():
    assert real_data_folder({"INJERTO_TEST_DATA": "/elsewhere"}) == Path("/elsewhere")

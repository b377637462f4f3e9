"""The tables of settings say what the models say."""

import pytest

from tests.paths import REPOSITORY
from tests.settings_tables import PAGES, settings_table, with_tables


@pytest.mark.parametrize("page", PAGES)
def test_page_shows_the_settings_of_its_model(page):
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    assert with_tables(page, text) == text, "run `python -m tests.settings_tables`"


def test_table_has_a_row_for_each_nested_key():
    table = settings_table(PAGES["search/README.md"])
    for key in ("name", "budget.trials", "data.image_column", "resources.address", "algorithm.sampler", "keep.best"):
        assert f"| `{key}` |" in table

import pytest
from typer.main import get_command

from search.cli.main import app
from search.cli.settings_options import TYPES, option_help
from search.config_reader import SHORTHANDS

COMMANDS = get_command(app).commands


def test_every_setting_with_a_shorthand_has_an_option():
    assert set(TYPES) == set(SHORTHANDS)


@pytest.mark.parametrize("name", ["search", "plan", "doctor"])
def test_commands_have_the_options_of_a_search_in_one_order(name):
    options = [parameter.name for parameter in COMMANDS[name].params]
    assert options[: len(TYPES) + 2] == ["source", *TYPES, "settings"]


def test_an_option_of_the_command_replaces_that_of_the_search():
    options = {parameter.name: parameter for parameter in COMMANDS["submit"].params}
    assert options["address"].envvar == "RAY_API_SERVER_ADDRESS"
    assert set(TYPES) < set(options)


def test_the_help_of_an_option_has_its_choices_and_its_default():
    assert option_help("trials") == r"Trials to run, the default recipe among them.  \[default: 12]"
    assert "(regression, binary, multiclass, multilabel)." in option_help("task")
    assert option_help("metric") == "Metric to optimize; the task's own by default."

"""README.md and the packages' pages are true: their commands parse, their examples are valid, their links resolve.

`test_readme_commands.py` runs the commands.
"""

import importlib.util
import subprocess

import pytest
import yaml
from typer.main import get_command

from cluster.render.cluster_config import ClusterConfig
from search.cli.main import app
from search.config import SearchConfig
from search.config_reader import SHORTHANDS, read_config
from tests.pages import PAGES, anchors, blocks, command_after, commands, inline_commands, links, modules
from tests.paths import REPOSITORY

pages = pytest.mark.parametrize("page", PAGES)
SETTINGS = {"source", "settings"}


def parse(words):
    """Parse a command line through the Typer app, as the shell would; run nothing. Raises the app's usage error."""
    command, arguments, context = get_command(app), list(words), None
    while True:
        context = command.make_context(command.name or "injerto", arguments, parent=context)
        if not hasattr(command, "resolve_command"):
            return context
        _, command, arguments = command.resolve_command(context, [*context._protected_args, *context.args])


def parse_with_settings(words):
    """Parse a command line, and read the settings of a command that searches."""
    given = parse(words).params
    if given.keys() >= SETTINGS:
        options = {name: value for name, value in given.items() if name in SHORTHANDS}
        read_config(given["source"], options, tuple(given["settings"] or ()))


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """The folder of a reader who has written the example to `study.yaml`."""
    monkeypatch.chdir(tmp_path)
    text = next(block for page in PAGES for block in blocks(page, "yaml") if block.startswith("# study.yaml"))
    (tmp_path / "study.yaml").write_text(text)


def test_ci_finds_the_two_main_commands():
    assert "injerto search" in command_after("From a checkout:")
    assert command_after("The tests:").strip() == "uv run pytest"


@pages
def test_each_command_parses(page, reader):
    for program, *arguments in commands(page):
        check(program, arguments, parse_with_settings)


@pages
def test_each_command_in_the_text_parses(page):
    """A command that is named without its arguments, `injerto resume`, is not wrong."""
    for program, *arguments in inline_commands(page):
        check(program, arguments, parse_mention)


def parse_mention(words):
    try:
        parse(words)
    except Exception as error:
        if type(error).__name__ != "MissingParameter":
            raise AssertionError(f"injerto {' '.join(words)}: {error}") from error


def check(program, arguments, parse_injerto):
    """Check a command of ours; those of other programs are not checked."""
    if program == "injerto":
        parse_injerto(arguments)
    elif program == "pytest":
        assert all((REPOSITORY / word.partition("::")[0]).exists() for word in arguments if word.startswith("tests/")), arguments
    elif program == "python" and arguments[0] == "-m":
        assert importlib.util.find_spec(arguments[1]), arguments
    elif program == "python" and arguments[0].endswith(".py"):
        assert (REPOSITORY / arguments[0]).exists(), arguments


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["search", "photos/", "--trails", "3"], "No such option"),
        (["search", "photos/", "--trials", "many"], "valid integer"),
        (["serch"], "No such command"),
        (["resume"], "Missing parameter: name"),
        (["search", "--set", "budgett=3"], "did you mean 'budget'"),
    ],
)
def test_wrong_commands_are_found(words, error):
    with pytest.raises(Exception, match=error):
        parse_with_settings(words)


@pages
def test_shell_blocks_are_valid(page):
    for block in blocks(page, "sh"):
        done = subprocess.run(["bash", "-n", "-c", block], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pages
def test_python_blocks_compile(page):
    for number, block in enumerate(blocks(page, "python")):
        compile(block, f"{page}, block {number}", "exec")


@pages
def test_links_resolve(page):
    for link in links(page):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        path = (REPOSITORY / page).parent / name if name else REPOSITORY / page
        assert path.exists(), link
        assert not anchor or anchor in anchors(path), link


@pages
def test_modules_named_in_the_text_exist(page):
    for name in modules(page):
        assert (REPOSITORY / name).exists(), name


@pages
def test_examples_of_settings_are_valid_and_state_only_what_differs(page):
    defaults = SearchConfig()
    for block in blocks(page, "yaml"):
        given = yaml.safe_load(block)
        kind = ClusterConfig if "cluster.yaml" in block.splitlines()[0] else SearchConfig
        found = kind.model_validate(given)
        assert kind is ClusterConfig or all(getattr(found, key) != getattr(defaults, key) for key in given)

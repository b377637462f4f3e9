import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from search.config import SHORTHANDS, SearchConfig, read_config, seconds
from trainables.config import to_yaml
from trainables.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"), [("90", 90), ("90s", 90), ("30m", 1800), ("1.5h", 5400), ("2 d", 172800), ("5min", 300), (7, 7)]
)
def test_durations(text, value):
    assert seconds(text) == value


@given(st.text(max_size=8).filter(lambda text: not any(character.isdigit() for character in text)))
def test_a_duration_has_a_number(text):
    with pytest.raises(ValueError, match="such as 30m"):
        seconds(text)


@pytest.mark.parametrize("name", ["a", "calm-fig", "A.b_c-9", "x" * 64])
def test_names(name):
    assert read_config(None, {"name": name}).name == name


@pytest.mark.parametrize("name", ["", " ", "a/b", "..", "a b", "x" * 65, "é", "a\n", "-x", "--help"])
def test_what_is_not_a_name(name):
    with pytest.raises(ConfigError, match="name: must be 1 to 64 letters"):
        read_config(None, {"name": name})


def test_file_then_options_then_settings(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("data: {source: photos}\nbudget: {trials: 5, time: 1h}\nspace: {epochs: 4}\n")
    config = read_config(
        path, {"trials": 6, "seed": None}, ("budget.trials=7", "space.learning_rate.high=0.01", "algorithm.sampler=random")
    )
    assert (config.data.source, config.budget.trials, config.budget.time, config.seed) == ("photos", 7, 3600, 0)
    assert config.space == {"epochs": 4, "learning_rate": {"high": 0.01}}
    assert config.algorithm.sampler == "random"


def test_yaml_out_is_yaml_in(tmp_path):
    config = read_config("photos", {"trials": 3, "name": "calm-fig", "time_budget": "2m"}, ("space.epochs=[2, 3]",))
    path = tmp_path / "again.yaml"
    path.write_text(to_yaml(config))
    assert read_config(path, {}) == config


def test_every_shorthand_is_a_key():
    for option, key in SHORTHANDS.items():
        kind = SearchConfig
        for part in key.split("."):
            assert part in kind.model_fields, option
            kind = kind.model_fields[part].annotation


@pytest.mark.parametrize(
    ("yaml_text", "options", "settings", "fragments"),
    [
        ("seeed: 3", {}, (), ["unknown key 'seeed'", "did you mean 'seed'?"]),
        ("budget: {trails: 3}", {}, (), ["unknown key 'budget.trails'", "did you mean 'trials'?"]),
        ("learning_rate: 0.1", {}, (), ["unknown key 'learning_rate'", "did you mean 'space.learning_rate'?"]),
        ("budget: {trials: 0}", {}, (), ["budget.trials", "greater than or equal to 1", "got 0"]),
        ("budget: {time: soon}", {}, (), ["budget.time", "30m"]),
        ("budget: {time: -3}", {}, (), ["budget.time", "greater than 0"]),
        ("image_size: 4", {}, (), ["image_size", "greater than or equal to 16"]),
        ("algorithm: {sampler: tep}", {}, (), ["algorithm.sampler: unknown 'tep'", "did you mean 'tpe'?"]),
        ("backbones: [a, b, c, d]", {}, (), ["backbones", "at most 3"]),
        ("data: !!python/object/apply:os.getcwd []", {}, (), ["YAML tag that is not plain data"]),
        ("a: [1", {}, (), ["not valid YAML"]),
        ("- 1", {}, (), ["must hold keys and values but holds list"]),
        ("{}", {"trails": 3}, (), ["unknown option 'trails'", "did you mean 'trials'?"]),
        ("{}", {}, ("trials",), ["--set takes key=value", "'trials'"]),
        ("{}", {}, ("=3",), ["--set takes key=value"]),
        ("{}", {}, ("name=!!python/name:os.system",), ["is not a plain value"]),
        ("{}", {"name": "--help"}, (), ["name", "begin with no hyphen"]),
        ("{}", {}, ("resources.gpus_per_trial=0.00001",), ["gpus_per_trial", "0.0001"]),
        ("{}", {}, ("budget=3",), ["budget"]),
        ("trial: {epochs: 3}\ndata: {}", {}, (), ["is one configuration, not a search", "injerto train"]),
    ],
)
def test_what_is_wrong_is_said(tmp_path, yaml_text, options, settings, fragments):
    path = tmp_path / "study.yaml"
    path.write_text(yaml_text)
    with pytest.raises(ConfigError) as caught:
        read_config(path, options, settings)
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_several_faults_are_named_at_once(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({"seed": -1, "budget": {"trials": 0}}))
    with pytest.raises(ConfigError) as caught:
        read_config(path, {})
    assert str(path) in str(caught.value)
    assert "seed" in str(caught.value)
    assert "budget.trials" in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no file"):
        read_config(tmp_path / "none.yaml", {})

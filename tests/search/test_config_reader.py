import pytest
import yaml

from search.config import SearchConfig
from search.config_reader import SHORTHANDS, change_settings, read_config
from trainables.config import to_yaml
from trainables.errors import ConfigError


def test_options_replace_the_file_and_settings_replace_options(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("data: {source: photos}\nbudget: {trials: 5, time: 1h}\nspace: {epochs: 4}\n")
    config = read_config(
        path, {"trials": 6, "seed": None}, ("budget.trials=7", "space.learning_rate.high=0.01", "algorithm.sampler=random")
    )
    assert (config.data.source, config.budget.trials, config.budget.time, config.seed) == ("photos", 7, 3600, 0)
    assert config.space == {"epochs": 4, "learning_rate": {"high": 0.01}}
    assert config.algorithm.sampler == "random"


def test_a_configuration_is_the_same_after_yaml(tmp_path):
    config = read_config("photos", {"trials": 3, "name": "calm-fig", "time_budget": "2m"}, ("space.epochs=[2, 3]",))
    path = tmp_path / "again.yaml"
    path.write_text(to_yaml(config))
    assert read_config(path, {}) == config


def test_every_shorthand_names_a_setting():
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
        ("backbones: [a, b, c, d, e, f, g, h, i]", {}, (), ["backbones", "at most 8"]),
        ("image_size: [96, 8]", {}, (), ["image_size: must be greater than or equal to 16", "got 8"]),
        ("image_size: []", {}, (), ["image_size", "at least 1 item"]),
        ("image_size: large", {}, (), ["image_size: must be a whole number", "but got 'large'"]),
        ("preset: quik", {}, (), ["unknown preset 'quik'", "did you mean 'quick'?"]),
        ("preset: quick", {}, ("budget=3",), ["budget"]),
        ("preset: quick", {}, ("resources.gpus_per_trial=many",), ["resources.gpus_per_trial", "got 'many'"]),
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
def test_a_wrong_key_or_value_is_named(tmp_path, yaml_text, options, settings, fragments):
    path = tmp_path / "study.yaml"
    path.write_text(yaml_text)
    with pytest.raises(ConfigError) as caught:
        read_config(path, options, settings)
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_several_mistakes_are_named_at_once(tmp_path):
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


def test_resources_per_trial_are_read_as_ray_writes_them(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("resources_per_trial: {cpu: 2, gpu: 0.5, custom: {fast: 1}}\n")
    resources = read_config(path, {}).resources
    assert (resources.cpus_per_trial, resources.gpus_per_trial, resources.custom) == (2, 0.5, {"fast": 1})


def test_only_sections_that_change_no_trial_can_be_changed():
    config = SearchConfig()
    assert change_settings(config, ()) is config
    assert change_settings(config, ("keep.best=5", "budget.trials=20")).keep.best == 5
    with pytest.raises(ConfigError, match=r"--set space\.epochs: a resumed search can change only budget, keep and resources"):
        change_settings(config, ("space.epochs=3",))

import subprocess
import sys

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.paths import REPOSITORY
from trainables.config import DataConfig, Recipe, TrialConfig, read_yaml, to_yaml, validate, write_yaml
from trainables.errors import ConfigError, ResourceError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TRIALS = st.builds(
    TrialConfig,
    backbone=TEXT,
    weights=TEXT,
    image_size=st.integers(16, 1024),
    stage_lr_decay=st.floats(0, 1, exclude_min=True),
    learning_rate=st.floats(0, 10, exclude_min=True),
    loss=st.sampled_from([None, "mape", "cross_entropy"]),
    batch_size=st.integers(2, 500).map(lambda size: 2 * size),
    accumulation=st.sampled_from([1, 2]),
    augmentation_ops=st.lists(st.sampled_from(["crop", "flip"])).map(tuple),
)
DATA = st.builds(
    DataConfig, source=TEXT, image_column=st.none() | TEXT, label_columns=st.lists(TEXT).map(tuple), classes=st.lists(TEXT).map(tuple)
)
RECIPES = st.builds(
    Recipe, study=st.none() | TEXT, value=st.none() | NUMBERS, trial_number=st.none() | st.integers(), data=DATA, trial=TRIALS
)


@settings(max_examples=50)
@given(RECIPES)
def test_a_recipe_round_trips_as_yaml(recipe):
    assert validate(Recipe, yaml.safe_load(to_yaml(recipe))) == recipe


@settings(max_examples=25)
@given(recipe=RECIPES)
def test_a_recipe_round_trips_through_a_file(tmp_path_factory, recipe):
    path = tmp_path_factory.getbasetemp() / "recipe.yaml"
    write_yaml(path, recipe, "A first line\nand a second: [x")
    assert path.read_text(encoding="utf-8").startswith("# A first line\n# and a second: [x\n")
    assert validate(Recipe, read_yaml(path)) == recipe


@pytest.mark.parametrize("name", ["\x85", "a\u2028b", "\u2029 ", "año", "🐈", "a\rb\n", "no", "1e3", "\x00"])
def test_unusual_names_round_trip(tmp_path, name):
    recipe = Recipe(study=name, data=DataConfig(classes=(name, "b")))
    write_yaml(tmp_path / "best.yaml", recipe)
    assert validate(Recipe, read_yaml(tmp_path / "best.yaml")) == recipe


def test_yaml_has_the_keys_in_the_order_of_their_declaration():
    assert list(yaml.safe_load(to_yaml(TrialConfig(loss="mse", head=("dense",), evaluation_size=64)))) == list(TrialConfig.model_fields)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (TrialConfig, {"learning_rte": 1}, "unknown key 'learning_rte'; did you mean 'learning_rate'?"),
        (Recipe, {"trial": {"dropot": 0.1}}, "unknown key 'trial.dropot'; did you mean 'dropout'?"),
        (Recipe, {"trail": {}}, "unknown key 'trail'; did you mean 'trial'?"),
        (Recipe, {"data": {"task": "multiclas"}}, "data.task: unknown 'multiclas'; did you mean 'multiclass'?"),
        (TrialConfig, {"initializer": "xavier_norm"}, "initializer: unknown 'xavier_norm'; did you mean 'xavier_normal'?"),
        (TrialConfig, {"augmentation_ops": ["crop", "flipp"]}, "augmentation_ops: unknown 'flipp'; did you mean 'flip'?"),
        (TrialConfig, {"loss": "mes"}, "loss: unknown 'mes'; did you mean 'mse'?"),
        (TrialConfig, {"batch_size": 10, "accumulation": 3}, "batch_size must be a multiple of accumulation but got 10 and 3"),
        (Recipe, {"trial": {"batch_size": 10, "accumulation": 3}}, "trial: batch_size must be a multiple of accumulation but got 10 and 3"),
        (TrialConfig, {"epochs": "ten"}, "epochs: must be a whole number but got 'ten'"),
        (TrialConfig, {"learning_rate": float("nan")}, "learning_rate: must be a finite number but got nan"),
        (Recipe, {"trial": 3}, "trial: must hold keys and values but got 3"),
        (TrialConfig, {"augmentation_ops": "trivial"}, "augmentation_ops: must be a list but got 'trivial'; write [trivial]"),
        (TrialConfig, {"flip_average": "maybe"}, "flip_average: must be true or false but got 'maybe'"),
        (Recipe, {1: 2}, "Keys should be strings but got 1"),
    ],
)
def test_a_wrong_key_or_value_gives_one_line_with_the_value(kind, values, message):
    with pytest.raises(ConfigError) as caught:
        validate(kind, values)
    assert str(caught.value) == message


def test_every_problem_is_reported_at_once():
    with pytest.raises(ConfigError) as caught:
        validate(TrialConfig, {"dropot": 1, "epochs": 0, "schedule": "cosin"}, where="best.yaml")
    lines = str(caught.value).splitlines()
    assert lines[0] == "in best.yaml:"
    assert len(lines) == 4


RANGES = {
    "image_size": (16, 1024),
    "stage_lr_decay": (None, 1),
    "freeze_steps": (0, 1),
    "head_epochs": (0, 1000),
    "unfrozen_stages": (0, None),
    "head_layers": (0, 3),
    "head_units": (8, 8192),
    "dropout": (0, None),
    "label_smoothing": (0, None),
    "learning_rate": (None, 10),
    "momentum": (0, None),
    "weight_decay": (0, 1),
    "warmup": (0, 1),
    "clip_norm": (0, None),
    "epochs": (1, 1000),
    "batch_size": (2, 8192),
    "augmentation_strength": (0, 1),
    "seed": (0, None),
}


@pytest.mark.parametrize(("key", "edges"), RANGES.items())
def test_values_outside_the_range_are_rejected(key, edges):
    for edge, outwards in zip(edges, (-1, 1), strict=True):
        if edge is not None:
            assert getattr(validate(TrialConfig, {key: edge}), key) == edge
            with pytest.raises(ConfigError, match=rf"^{key}: must be (greater|less) than or equal to {edge} but got {edge + outwards}$"):
                validate(TrialConfig, {key: edge + outwards})


@pytest.mark.parametrize(
    ("key", "value"), [("stage_lr_decay", 0), ("learning_rate", 0), ("dropout", 1), ("momentum", 1), ("label_smoothing", 1)]
)
def test_open_ends_of_ranges_are_rejected(key, value):
    with pytest.raises(ConfigError, match=f"^{key}: must be (greater|less) than {value} but got {value}$"):
        validate(TrialConfig, {key: value})


def test_numbers_are_accepted_as_names(tmp_path):
    """YAML reads a column number and classes that are digits as numbers."""
    path = tmp_path / "data.yaml"
    path.write_text("image_column: 0\nlabel_columns: [1, 2]\nclasses: [0, 1]\nheader: no\n")
    data = validate(DataConfig, read_yaml(path))
    assert (data.image_column, data.label_columns, data.classes, data.header) == ("0", ("1", "2"), ("0", "1"), False)


@pytest.mark.parametrize("text", ["positive: yes", "classes: [no, yes]"])
def test_names_that_yaml_reads_as_truth_values_are_refused_with_the_remedy(text):
    with pytest.raises(ConfigError, match=r"YAML reads yes, no, true and false as truth values; put quotes around such a name: 'yes'"):
        validate(DataConfig, yaml.safe_load(text))
    assert validate(DataConfig, yaml.safe_load("positive: 'yes'\nclasses: ['no', 'yes']")).positive == "yes"


def test_numbers_are_accepted_in_the_forms_that_yaml_gives(tmp_path):
    path = tmp_path / "trial.yaml"
    path.write_text("learning_rate: 1e-3\nweights: none\nepochs: 3.0\n")  # YAML 1.1 reads 1e-3 as text
    trial = validate(TrialConfig, read_yaml(path))
    assert (trial.learning_rate, trial.weights, trial.epochs) == (1e-3, "none", 3)


def test_a_configuration_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        TrialConfig().epochs = 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!!python/object/apply:os.system ['touch proof']", "a YAML tag that is not plain data"),
        ("a: !!python/name:os.system", "a YAML tag that is not plain data"),
        ("a: [1", "is not valid YAML"),
        ("- 1\n- 2", "must hold keys and values but holds list"),
        ("", "must hold keys and values but holds NoneType"),
        ("a: \x00", "is not valid YAML"),
    ],
)
def test_unsafe_or_invalid_yaml_is_rejected(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_yaml("a.yaml")
    assert not (tmp_path / "proof").exists()


def test_unreadable_files_are_rejected(tmp_path):
    with pytest.raises(ConfigError, match="no file"):
        read_yaml(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match="cannot read"):
        read_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("study: año".encode("latin-1"))
    with pytest.raises(ConfigError, match="is not a text file; name a YAML file of settings"):
        read_yaml(tmp_path / "latin.yaml")


FULL_DISK = """
import resource, sys
from trainables.config import Recipe, write_yaml
from trainables.errors import ResourceError
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    write_yaml(sys.argv[1], Recipe())
except ResourceError as error:
    print(error)
print("torch" in sys.modules)
"""


def test_a_failed_write_leaves_the_old_file_and_torch_is_not_imported(tmp_path):
    path = tmp_path / "best.yaml"
    write_yaml(path, Recipe(study="old"))
    done = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, timeout=60, cwd=REPOSITORY, check=False)
    assert f"cannot write {path}" in done.stdout, done.stderr
    assert done.stdout.splitlines()[-1] == "False"
    assert read_yaml(path)["study"] == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["best.yaml"]
    with pytest.raises(ResourceError, match="cannot write"):
        write_yaml(path / "inside.yaml", Recipe())


def test_mirror_images_are_averaged_only_where_flips_are_allowed():
    assert validate(TrialConfig, {"flip_average": True}).flip_average
    with pytest.raises(ConfigError, match="without flip says that a mirrored image is another one; add flip, or set flip_average"):
        validate(TrialConfig, {"flip_average": True, "augmentation_ops": ["crop", "color"]})


def test_evaluation_is_at_least_as_large_as_training():
    assert validate(TrialConfig, {"image_size": 96, "evaluation_size": 96}).evaluation_size == 96
    with pytest.raises(ConfigError, match="evaluation_size must be at least image_size, 96, but got 95"):
        validate(TrialConfig, {"image_size": 96, "evaluation_size": 95})

import re

import pytest
import yaml

from trainables.config import TrialConfig, to_yaml, validate
from trainables.errors import ConfigError
from trainables.head_layers import Dense, Dropout, read_layers


def test_a_list_of_layers_is_read():
    lines = ("dropout 0.1", "dense 256 relu", "dropout 0.3", "dense 64", "dense")
    assert read_layers(lines, ("relu",)) == (Dropout(0.1), Dense(256, "relu"), Dropout(0.3), Dense(64), Dense())
    assert read_layers(("dense",), ()) == (Dense(),)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ([], "an empty list has no layer; end it with dense"),
        (
            ["dense 256 relu"],
            "the last layer must be dense without a size, because the task says how many outputs it has; got 'dense 256 relu'",
        ),
        (["dense", "dropout 0.2"], "the last layer must be dense without a size"),
        (["dense", "dense"], "only the last dense has no number of neurons, but got 'dense' before it"),
        (["dens 256", "dense"], "unknown layer 'dens 256'; did you mean 'dense'?"),
        (["", "dense"], "unknown layer ''; known: dense, dropout"),
        ([3, "dense"], "unknown layer '3'"),
        (["dense many", "dense"], "a dense layer has 8 to 8192 neurons, such as dense 256, but got 'dense many'"),
        (["dense 2.5", "dense"], "but got 'dense 2.5'"),
        (["dense 4", "dense"], "a dense layer has 8 to 8192 neurons"),
        (["dense 256 relo", "dense"], "unknown activation 'relo' in 'dense 256 relo'; did you mean 'relu'?"),
        (["dense 256 relu 3", "dense"], "a number of neurons and an activation, such as dense 256 relu, but got 'dense 256 relu 3'"),
        (["dropout", "dense"], "dropout has a share from 0 to below 1, such as dropout 0.3, but got 'dropout'"),
        (["dropout 1", "dense"], "but got 'dropout 1'"),
        (["dropout nan", "dense"], "but got 'dropout nan'"),
        (["dropout 0.1 0.2", "dense"], "but got 'dropout 0.1 0.2'"),
    ],
)
def test_a_list_that_is_no_head_gives_one_line_that_says_what_is_wrong(head, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        validate(TrialConfig, {"head": head})
    assert str(caught.value).startswith("head: ")
    assert len(str(caught.value).splitlines()) == 1


def test_a_head_given_twice_is_refused():
    lines = ["dense 64 relu", "dense"]
    message = "head lists all layers of the head, so head_layers: 2, dropout: 0.5 would have no effect; remove it, or remove head"
    with pytest.raises(ConfigError, match=message):
        validate(TrialConfig, {"head": lines, "head_layers": 2, "dropout": 0.5})
    assert validate(TrialConfig, {"head": lines, "head_layers": 0, "dropout": 0.2}).head == tuple(lines)


def test_a_head_survives_yaml():
    trial = validate(TrialConfig, yaml.safe_load("head: [dense 256 relu, dropout 0.3, dense]"))
    assert trial.head == ("dense 256 relu", "dropout 0.3", "dense")
    assert validate(TrialConfig, yaml.safe_load(to_yaml(trial))) == trial

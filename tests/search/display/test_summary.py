from dataclasses import replace

import pytest

from search.display.summary import conclusion, failures, in_words, leaderboard, summary
from trainables.config import TrialConfig

PLAIN = TrialConfig()


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({}, "Take mobilenet_v3_small with builtin weights at 64 px; train its last 5 stages"),
        ({"unfrozen_stages": 1}, "train its last stage at 0.5 times the rate of the head"),
        ({"unfrozen_stages": 0}, "keep it frozen."),
        ({}, "On it a perceptron, weights from trunc_normal, dropout 0.2."),
        ({"head_layers": 1}, "1 hidden layer of 256 neurons (relu)"),
        (
            {"head_layers": 2, "label_smoothing": 0.1},
            "2 hidden layers of 256 neurons (relu), weights from trunc_normal, dropout 0.2, label",
        ),
        ({}, "Optimize by adamw, learning rate 0.001 (cosine, warm-up 10%)"),
        ({"optimizer": "sgd"}, "Optimize by sgd with momentum 0.9"),
        ({"augmentation_strength": 0.0}, "Augment: none (strength 0)."),
        ({"augmentation_strength": 0.25}, "Augment: light (strength 0.25: crop, flip"),
        ({"augmentation_strength": 1.0}, "Augment: strong"),
    ],
)
def test_a_configuration_in_words(changes, fragment):
    assert fragment in " ".join(in_words(PLAIN.model_copy(update=changes).model_dump(mode="json")))


def shown(capsys):
    return " ".join(capsys.readouterr().out.split())


def test_summary(finished, capsys):
    summary(finished)
    text = shown(capsys)
    assert text.startswith("calm-fig finished: all 7 trials have ended trials: ")
    assert f"best validation loss: {finished.best.value:.4g} (trial {finished.best.number})" in text
    summary(replace(finished, state="interrupted", why="interrupted by SIGINT"))
    assert "go on with it: injerto resume calm-fig" in shown(capsys)


def test_leaderboard_names_winner_and_default_recipe(finished, capsys):
    leaderboard(finished)
    text = shown(capsys)
    assert text.index("validation loss") < text.index("The best configuration") < text.index("opened once")
    assert text.count("(default recipe)") == 1
    winner = finished.test["winner"]
    assert f"trial {winner['trial']}, the winner" in text
    assert f"{winner['test']['loss']:.4f}" in text


def test_conclusion_names_the_files(finished, capsys):
    conclusion(finished)
    out = capsys.readouterr().out
    assert f"{finished.folder / 'best.safetensors'}" in out
    assert f"injerto train {finished.folder / 'best.yaml'}" in out


def test_conclusion_of_a_search_without_result(finished, capsys):
    failed = tuple(
        replace(trial, state="failed", value=None, error={"kind": "other", "message": "[bold] boom"}) for trial in finished.trials
    )
    record = replace(finished, trials=failed)
    failures(record)
    assert "failed other: [bold] boom (trial 0, 1, 2, 3, 4, 5, 6)" in shown(capsys)
    conclusion(record)
    assert "no trial finished; nothing to hand over" in shown(capsys)

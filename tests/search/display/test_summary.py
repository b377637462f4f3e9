from dataclasses import replace

import pytest

from search.display.summary import describe_configuration, print_conclusion, print_failures, print_leaderboard, print_summary
from trainables.config import TrialConfig

PLAIN = TrialConfig()


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({}, "Backbone: efficientnet_lite0 with imagenet weights, images of 64 px; the last 3 stages train."),
        ({"stage_lr_decay": 0.5}, "the last 3 stages train, each at 0.5 times the learning rate of the part after it."),
        ({"unfrozen_stages": 1, "freeze_steps": 0.1}, "the last stage trains, from 10% of the steps on."),
        ({"unfrozen_stages": 0}, "all stages stay frozen."),
        ({}, "Head: one linear layer, weights from trunc_normal, dropout 0.2."),
        ({"head": ("dense 64 tanh", "dense")}, "Head: dense 64 tanh, dense, weights from trunc_normal."),
        ({"head_layers": 1}, "1 hidden layer of 256 neurons (relu)"),
        (
            {"head_layers": 2, "label_smoothing": 0.1},
            "2 hidden layers of 256 neurons (relu), weights from trunc_normal, dropout 0.2, label",
        ),
        ({}, "Optimizer: adamw, learning rate 0.001 (cosine, warm-up 10%)"),
        ({"optimizer": "sgd"}, "Optimizer: sgd with momentum 0.9"),
        ({"augmentation_strength": 0.0}, "Augmentation: none (strength 0)."),
        ({"augmentation_strength": 0.25}, "Augmentation: light (strength 0.25: crop, flip"),
        ({"augmentation_strength": 1.0}, "Augmentation: strong"),
    ],
)
def test_a_configuration_is_described_in_sentences(changes, fragment):
    assert fragment in " ".join(describe_configuration(PLAIN.model_copy(update=changes).model_dump(mode="json")))


def printed(capsys):
    return " ".join(capsys.readouterr().out.split())


def test_the_summary_names_state_best_trial_and_how_to_resume(finished, capsys):
    print_summary(finished)
    text = printed(capsys)
    assert text.startswith("calm-fig finished: all 6 trials have ended trials: ")
    assert f"best validation loss: {finished.best.value:.4g} (trial {finished.best.number})" in text
    print_summary(replace(finished, state="interrupted", why="interrupted by SIGINT"))
    assert "go on with it: injerto resume calm-fig" in printed(capsys)


def test_the_leaderboard_names_winner_and_default_recipe(finished, capsys):
    print_leaderboard(finished)
    text = printed(capsys)
    assert text.index("validation loss") < text.index("The best configuration") < text.index("evaluated once")
    assert text.count("(default recipe)") == 1
    winner = finished.test["winner"]
    assert f"trial {winner['trial']}, the winner" in text
    assert f"{winner['test']['loss']:.4f}" in text


def test_a_result_without_a_finished_trial_says_so(finished, capsys):
    stopped = tuple(replace(trial, state="stopped", epochs_done=1) for trial in finished.trials)
    record = replace(finished, trials=stopped)
    print_summary(record)
    text = printed(capsys)
    until = f"stopped after epoch 1 of {record.best.epochs_planned}"
    assert f"(trial {record.best.number}, {until}; no trial has finished)" in text
    assert f"the best trial, {until}, has loss" in text
    assert record.best_json()["unfinished"] == until
    assert finished.best_json()["unfinished"] == ""


def test_the_conclusion_names_the_files(finished, capsys):
    print_conclusion(finished)
    out = capsys.readouterr().out
    assert f"{finished.folder / 'best.safetensors'}" in out
    assert f"injerto train {finished.folder / 'best.yaml'}" in out


def test_the_conclusion_of_a_search_without_a_finished_trial(finished, capsys):
    failed = tuple(
        replace(trial, state="failed", value=None, error={"kind": "other", "message": "[bold] boom"}) for trial in finished.trials
    )
    record = replace(finished, trials=failed)
    print_failures(record)
    assert "failed other: [bold] boom (trial 0, 1, 2, 3, 4, 5)" in printed(capsys)
    print_conclusion(record)
    assert "no trial finished, so there is no result to export" in printed(capsys)

"""Input that the command line rejects: exit code 2, a message that says what to do, and no files."""

import pytest

from tests.search.cli.commands import main
from tests.search.conftest import COLOURS, IMAGE_SIZE, folders, paint


def lone_class(home):
    for index in range(9):
        paint(home / "one" / "red" / f"{index}.png", COLOURS["red"], numpy_rng())
    return "one"


def lonely_image(home):
    folders(home / "uneven", each=6)
    paint(home / "uneven" / "pink" / "0.png", (200, 150, 150), numpy_rng())
    return "uneven"


def numpy_rng():
    import numpy as np

    return np.random.default_rng(7)


def pointers(home):
    for name in ("cat", "dog"):
        (home / "lfs" / name).mkdir(parents=True)
        for index in range(6):
            (home / "lfs" / name / f"{index}.jpg").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")
    return "lfs"


def written(name, text):
    def make(home):
        (home / name).write_text(text)
        return name

    return make


def csv(rows, images=24):
    """Return a function that writes a CSV of images 0.png, 1.png, ... `rows(index)` returns their cells, `rows(None)` the header."""

    def make(home):
        for index in range(images):
            paint(home / "table" / f"{index}.png", COLOURS["red"], numpy_rng())
        header, *lines = [rows(None), *(f"{index}.png,{rows(index)}" for index in range(images))]
        (home / "table" / "labels.csv").write_text("\n".join([f"image,{header}", *lines]))
        return "table"

    return make


def empty(home):
    (home / "empty").mkdir()
    return "empty"


def damaged_weights(home):
    (home / "mine.safetensors").write_bytes(b"no tensors")
    return "mine.safetensors"


def other_weights(home):
    import torch
    from safetensors.torch import save_file

    save_file({"features.0.weight": torch.zeros(3)}, home / "other.safetensors")
    return "other.safetensors"


BAD_SOURCES = {
    "missing path": (lambda home: "nowhere", "/nowhere'; give an image folder, a CSV file"),
    "missing sample": (lambda home: "builtin:digit", "did you mean 'digits'"),
    "missing yaml": (lambda home: "none.yaml", "no file 'none.yaml'"),
    "empty folder": (empty, "holds no images"),
    "one class": (lone_class, "one class"),
    "class of one image": (lonely_image, "pink"),
    "pointers": (pointers, "Git LFS pointers"),
    "yaml tag": (written("bad.yaml", "name: !!python/name:os.system"), "YAML tag"),
    "yaml list": (written("bad.yaml", "- 1"), "must hold keys and values"),
    "yaml key": (written("bad.yaml", "budgett: {}"), "did you mean 'budget'"),
    "a recipe": (written("best.yaml", "data: {source: builtin:digits}\ntrial: {epochs: 2}"), "injerto train best.yaml"),
}
BAD_ARGUMENTS = {
    "unknown metric": (["--metric", "acuracy"], "known: accuracy, "),
    "metric of another task": (["--metric", "mae"], "is not a metric of a multiclass task"),
    "top5 of three classes": (["--metric", "top5"], "needs at least 10 classes"),
    "unknown task": (["--task", "multi"], "data.task: unknown 'multi'"),
    "task that the labels are not": (["--task", "multilabel"], "multilabel needs a CSV"),
    "name": (["--name", "my study"], "name: must be 1 to 64 letters"),
    "trials": (["--trials", 0], "budget.trials: must be greater than or equal to 1 but got 0"),
    "trials in words": (["--trials", "many"], "integer"),
    "time": (["--time-budget", "soon"], "30m"),
    "image size": (["--image-size", 7], "image_size: must be greater than or equal to 16"),
    "seed": (["--seed", -1], "seed"),
    "unknown key": (["--set", "space.lerning_rate=0.1"], "did you mean 'learning_rate'"),
    "key without space": (["--set", "learning_rate=0.1"], "did you mean 'space.learning_rate'"),
    "no value": (["--set", "space.epochs"], "--set takes key=value"),
    "range": (["--set", "space.dropout=1.4"], "dropout: must be less than 1 but got 1.4"),
    "range of strength": (["--set", "space.augmentation_strength.high=1.4"], "augmentation_strength: must be less than or equal to 1"),
    "tag": (["--set", "space=!!python/object/apply:os.getcwd []"], "is not a plain value"),
    "initializer": (["--set", "space.initializer=xavier_unifrom"], "did you mean 'xavier_uniform'"),
    "backbone": (["--set", "space.backbone=mobilenet_v3_smal"], "did you mean 'mobilenet_v3_small'"),
    "backbones": (["--set", "backbones=[resnet81]", "--weights", "none"], "did you mean 'resnet18'"),
    "no backbone": (["--set", "space.backbone={low: 3}"], "space.backbone takes a name or a list of names"),
    "timm name": (["--set", "backbones=['timm:resnet81']"], "timm has no network 'resnet81'; did you mean timm:resnet"),
    "image sizes": (["--set", "image_size=[32, 8]"], "image_size: must be greater than or equal to 16"),
    "size of one backbone": (
        ["--weights", "none", "--set", "backbones=[resnet18, inception_v3]"],
        "at least 75 pixels, but image_size is 32",
    ),
    "preset": (["--preset", "quik"], "unknown preset 'quik'; did you mean 'quick'"),
    "small images": (["--set", "backbones=[inception_v3]", "--weights", "none"], "inception_v3 accepts images of at least 75 pixels"),
    "batch": (["--set", "space.batch_size=16"], "batch_size must be at most 8, a quarter of the 33 training images"),
    "stages": (["--set", "space.unfrozen_stages=9"], "unfrozen_stages must be at most"),
    "weights": (["--weights", "imagnet"], "write imagenet or none"),
    "missing weights": (["--weights", "mine.safetensors"], "mine.safetensors"),
    "loss of another task": (["--set", "space.loss=mse"], "loss 'mse' is not a loss of a multiclass task"),
    "losses of another task": (["--set", "space.loss=[cross_entropy, mae]"], "loss 'mae' is not a loss of a multiclass task"),
    "a setting in the space": (["--set", "space.image_size=[32, 64]"], "set image_size instead"),
    "logarithm": (["--set", "space.target=log"], "target: log is for regression"),
    "storage in words": (["--storage", "here"], "is not a storage URL"),
    "storage in memory": (["--storage", "sqlite://"], "would be lost"),
    "storage out of reach": (["--storage", "sqlite:////proc/none/x.db"], "cannot open the storage"),
    "output out of reach": (["--output", "/dev/null/none"], "cannot create the output folder"),
    "unknown option": (["--trails", 3], "--trails"),
}


def check_rejected(home, capsys, arguments, fragment):
    before = {path for path in home.rglob("*") if "own" not in path.parts}
    code = main(*arguments)
    shown = capsys.readouterr()
    words = " ".join(shown.err.replace("│", " ").split())
    assert code == 2, shown
    assert fragment in words
    assert "Traceback" not in shown.out + shown.err
    assert len(shown.err.splitlines()) <= 8
    assert {path for path in home.rglob("*") if "own" not in path.parts} == before
    if (home / "own").exists():
        from search.record.store import list_study_names, open_storage

        assert list_study_names(open_storage(None)) == []


@pytest.mark.parametrize("case", BAD_SOURCES)
def test_search_rejects_bad_sources(case, home, capsys):
    make, fragment = BAD_SOURCES[case]
    check_rejected(home, capsys, ["search", make(home)], fragment)


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_search_rejects_bad_arguments(case, home, photos, capsys):
    arguments, fragment = BAD_ARGUMENTS[case]
    check_rejected(home, capsys, ["search", photos, "--image-size", IMAGE_SIZE, *arguments], fragment)


@pytest.mark.parametrize(
    ("rows", "fragment"),
    [
        (lambda index: "weight" if index is None else ("heavy" if index == 3 else index * 1.5), "heavy"),
        (lambda index: "red,blue" if index is None else f"{index % 2},{2 if index == 5 else 1}", "2"),
        (lambda index: "label,image2" if index is None else f"{'ab'[index % 2]},x", ""),
    ],
)
def test_search_rejects_bad_tables(rows, fragment, home, capsys):
    options = ["--task", "regression"] if rows(None) == "weight" else []
    if rows(None) == "red,blue":
        options = ["--task", "multilabel", "--set", "data.label_columns=[red, blue]"]
    if rows(None) == "label,image2":
        options, fragment = ["--set", "data.image_column=imag"], "did you mean 'image'"
    check_rejected(home, capsys, ["search", csv(rows)(home), *options], fragment)


@pytest.mark.parametrize("make", [damaged_weights, other_weights])
def test_search_rejects_weights_that_do_not_match(make, home, photos, capsys):
    name = make(home)
    check_rejected(home, capsys, ["search", photos, "--weights", name, "--image-size", IMAGE_SIZE], name)


def test_search_rejects_a_csv_of_missing_images(home, capsys):
    (home / "labels.csv").write_text("image,label\n" + "\n".join(f"{index}.png,{'ab'[index % 2]}" for index in range(12)))
    check_rejected(home, capsys, ["search", "labels.csv"], "0.png")


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["best"], "no studies at"),
        (["status", "calm-fig"], "no studies at"),
        (["resume", "calm-fig"], "no studies at"),
        (["best", "--storage", "nonsense"], "is not a storage URL"),
        (["train", "none.yaml"], "no file 'none.yaml'"),
        (["dashboard"], "no studies at"),
        (["serch"], "serch"),
    ],
)
def test_other_commands_reject_bad_input(arguments, fragment, home, capsys):
    check_rejected(home, capsys, arguments, fragment)

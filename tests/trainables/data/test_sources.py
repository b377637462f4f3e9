import numpy as np
import pytest
from PIL import Image

from trainables.data.source_options import SourceOptions
from trainables.data.sources import read_source
from trainables.errors import DataError


def read(source, **options):
    return read_source(source, SourceOptions(**options))


def picture(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (value, value, value)).save(path, format="PNG")
    return path


def folders(root, *names):
    for index, name in enumerate(names):
        picture(root / name, index)
    return str(root)


def table(root, text, images=6, folder="images"):
    for index in range(images):
        picture(root / folder / f"{index}.png", index)
    (root / "labels.csv").write_text(text, encoding="utf-8")
    return str(root)


def rows(*labels, header="image,label", folder="images/"):
    return "\n".join([header, *(f"{folder}{index}.png,{label}" for index, label in enumerate(labels))])


def test_two_folders_give_a_binary_task(tmp_path):
    samples = read(folders(tmp_path, "b/1.png", "a/2.png", "a/deep/er/3", "a/.hidden", "a/Thumbs.db", "b/.DS_Store"))
    assert samples.names == ("a/2.png", "a/deep/er/3", "b/1.png")
    assert (samples.task, samples.classes) == ("binary", ("a", "b"))
    assert samples.targets.tolist() == [0, 0, 1]
    assert samples.targets.dtype == np.int64
    assert samples.splits is None
    assert all(path.is_file() for path in samples.paths)
    assert "binary" in samples.notes[0]
    assert "positive class is 'b'" in samples.notes[0]


def test_the_rarer_folder_is_the_positive_class(tmp_path):
    samples = read(folders(tmp_path, *(f"ok/{index}.png" for index in range(5)), "defect/0.png", "defect/damaged"))
    assert samples.classes == ("ok", "defect")
    assert samples.targets.tolist() == [1, 1, 0, 0, 0, 0, 0]
    assert "the positive class is 'defect', the rarer one (2 of 7 images)" in samples.notes[0]
    assert read(str(tmp_path), positive="ok").classes == ("defect", "ok")
    with pytest.raises(DataError, match=r"the task is multiclass; remove data\.positive"):
        read(str(tmp_path), positive="ok", task="multiclass")


def test_numbered_folders_are_ordered_by_number(tmp_path):
    samples = read(folders(tmp_path, *(f"{index}/a.png" for index in range(12))))
    assert samples.task == "multiclass"
    assert samples.classes == tuple(str(index) for index in range(12))


def test_task_and_class_order_can_be_given(tmp_path):
    source = folders(tmp_path, "a/1.png", "b/2.png")
    assert read(source, task="multiclass").task == "multiclass"
    assert read(source, classes=("b", "a")).targets.tolist() == [1, 0]
    with pytest.raises(DataError, match="did you mean 'a'"):
        read(source, classes=("aa", "b"))
    with pytest.raises(DataError, match="leaves out b"):
        read(source, classes=("a",))


def test_folders_named_by_numbers_give_regression_targets(tmp_path):
    samples = read(folders(tmp_path, "1.5/a.png", "-2/b.png", "10/c.png"), task="regression")
    assert dict(zip(samples.names, samples.targets.tolist(), strict=True)) == {"1.5/a.png": 1.5, "-2/b.png": -2.0, "10/c.png": 10.0}
    with pytest.raises(DataError, match="folders named by numbers"):
        read(folders(tmp_path, "x/a.png"), task="regression")


@pytest.mark.parametrize(
    "names", [("train", "validation", "test"), ("Training", "VAL", "testing"), ("training_set", "valid", "test_set"), ("train", "test")]
)
def test_split_folders_give_the_splits(tmp_path, names):
    samples = read(folders(tmp_path, *(f"{name}/{label}/1.png" for name in names for label in "ab")))
    known = {"t": "train", "v": "validation"}
    expected = ["test" if name.lower().startswith("test") else known[name[0].lower()] for name in sorted(names) for _ in "ab"]
    assert samples.classes == ("a", "b")
    assert samples.splits.tolist() == expected


def test_unlabelled_split_folder_and_empty_class_are_left_out_with_a_note(tmp_path):
    source = folders(tmp_path, "train/a/1.png", "train/b/2.png", "test/1.png", "test/2.png")
    (tmp_path / "train" / "nobody").mkdir()
    samples = read(source)
    assert len(samples.names) == 2
    notes = " ".join(samples.notes)
    assert "test/ holds 2 files but no class folders" in notes
    assert "because they are empty: train/nobody" in notes


BAD_FOLDERS = {
    "empty": ([], "holds no images"),
    "one class": (["a/1.png", "a/2.png"], "one class only"),
    "one folder too high": (["set/a/1.png", "set/b/1.png"], "give .*set if these are the classes"),
    "no folders": (["1.png", "2.png"], "put each class in a folder"),
    "class named like a split": (["test/1.png", "apple/2.png"], "mixes folders named like splits"),
    "only split names": (["train/1.png", "test/2.png"], "no class folders"),
    "class named like a split inside one": (["train/a/1.png", "train/test/2.png"], "named like a split"),
}


@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_ambiguous_folders_are_rejected(tmp_path, name):
    names, message = BAD_FOLDERS[name]
    with pytest.raises(DataError, match=message):
        read(folders(tmp_path, *names))


def test_missing_path_and_unknown_built_in_sample_are_rejected():
    with pytest.raises(DataError, match="no file or folder 'nowhere'"):
        read("nowhere")
    with pytest.raises(DataError, match=r"cannot read .*too long"):
        read("a" * 5000)
    with pytest.raises(DataError, match="did you mean 'digits'"):
        read("builtin:digit")


def test_control_characters_in_names_are_escaped(tmp_path):
    samples = read(folders(tmp_path, "a/1.png", "b/2.png", "\x1b[31mred.txt"))
    assert "'\\x1b[31mred.txt'" in samples.notes[1]


def test_linked_folders_are_read_once(tmp_path):
    source = folders(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a", target_is_directory=True)
    assert read(source).names == ("a/1.png", "b/2.png")


def test_builtin_digits_are_written_once():
    samples = read("builtin:digits")
    assert (len(samples.names), samples.task, len(samples.classes)) == (1797, "multiclass", 10)
    with Image.open(samples.paths[0]) as image:
        assert image.size == (8, 8)
        assert image.getextrema()[1] > 200
    written = samples.paths[0].stat().st_mtime_ns
    assert read("builtin:digits").paths[0].stat().st_mtime_ns == written


def test_a_text_column_gives_classes(tmp_path):
    samples = read(table(tmp_path, rows("cat", "dog", "cat", "eel")))
    assert (samples.task, samples.classes) == ("multiclass", ("cat", "dog", "eel"))
    assert samples.targets.tolist() == [0, 1, 0, 2]
    assert samples.names[0] == "images/0.png"


NUMERIC = {
    "zero and one": (("0", "1", "1"), "y", "binary", ("0", "1")),
    "as floats": (("0.0", "1.0", "1"), "y", "binary", ("0", "1")),
    "numbers named label": (("3", "10", "2"), "label", "multiclass", ("2", "3", "10")),
    "numbers": (("3", "10", "2"), "age", "regression", ("age",)),
    "fractions named label": (("3.5", "1", "2"), "label", "regression", ("label",)),
    "booleans": (("True", "False", "True"), "y", "binary", ("False", "True")),
    "repeated numbers": (tuple("01234") * 6, "diagnosis", "multiclass", tuple("01234")),
    "repeated quantities": (tuple("01234") * 6, "value", "regression", ("value",)),
}


@pytest.mark.parametrize("name", NUMERIC)
def test_a_numeric_column_gives_the_task(tmp_path, name):
    values, column, task, classes = NUMERIC[name]
    samples = read(table(tmp_path, rows(*values, header=f"image,{column}"), images=len(values)))
    assert (samples.task, samples.classes) == (task, classes)
    assert samples.targets.dtype == (np.float64 if task == "regression" else np.int64)


@pytest.mark.parametrize(("task", "other"), [("multiclass", "regression"), ("regression", "multiclass")])
def test_the_note_names_the_other_reading_of_whole_numbers(tmp_path, task, other):
    source = table(tmp_path, rows(*"01234" * 6, header=f"image,{'grade' if task == 'multiclass' else 'age'}"), images=30)
    samples = read(source)
    assert samples.task == task
    assert samples.notes[0].endswith(f"pass --task {other}")
    assert read(source, task=other).task == other


def test_above_100_classes_may_be_numbers(tmp_path):
    values = [str(index % 120) for index in range(360)]
    samples = read(table(tmp_path, rows(*values, header="image,label"), images=360))
    assert (samples.task, len(samples.classes)) == ("multiclass", 120)


def test_given_classes_turn_numbers_into_classes(tmp_path):
    source = table(tmp_path, rows("3", "4", "3", header="image,score"))
    assert read(source).task == "regression"
    assert read(source, classes=("4", "3")).targets.tolist() == [1, 0, 1]
    assert read(source, positive="3").classes == ("4", "3")


def test_numbered_classes_keep_their_digits(tmp_path):
    first, second = "12345678901234567890", "12345678901234567891"
    samples = read(table(tmp_path, rows(first, second, "007", "1", "1.0", "-2")), task="multiclass")
    assert samples.classes == ("-2", "1", "007", first, second)
    assert samples.targets.tolist() == [3, 4, 2, 1, 1, 0]


def test_columns_of_zero_and_one_give_multilabel(tmp_path):
    samples = read(table(tmp_path, rows("1,0", "0,0", "1,1", header="file,red,blue")))
    assert (samples.task, samples.classes) == ("multilabel", ("red", "blue"))
    assert samples.targets.tolist() == [[1, 0], [0, 0], [1, 1]]
    assert samples.targets.dtype == np.float32
    swapped = read(str(tmp_path), classes=("blue", "red"))
    assert swapped.targets.tolist() == [[0, 1], [0, 0], [1, 1]]


def test_cells_with_lists_give_multilabel(tmp_path):
    samples = read(table(tmp_path, rows("b|a", "", "a", "c| b")))
    assert (samples.task, samples.classes) == ("multilabel", ("a", "b", "c"))
    assert samples.targets.tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 0], [0, 1, 1]]


def test_split_and_group_columns_are_read_or_ignored(tmp_path):
    samples = read(table(tmp_path, rows("a,Train,p", "b,val,p", "a,test,q", "b,,r", header="image,label,split,group")))
    assert samples.splits.tolist() == ["train", "validation", "test", ""]
    assert samples.groups.tolist() == ["p", "p", "q", "r"]
    ignored = read(str(tmp_path), split_column="", group_column="", label_columns=("label",))
    assert ignored.splits is None
    assert ignored.groups is None


def test_header_prefix_extension_and_image_folder_options(tmp_path):
    text = "/mnt/other/x/0,cat\n/mnt/other/x/1,dog\n/mnt/other/x/2,cat\n"
    source = table(tmp_path, text, folder="photos")
    samples = read(source, header=False, strip_prefix="/mnt/other/x", extension="png", image_folder="photos")
    assert samples.names == ("0.png", "1.png", "2.png")
    assert samples.classes == ("cat", "dog")


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_csv_with_other_delimiter_byte_order_mark_and_backslashes(tmp_path, delimiter):
    text = "\ufeff" + rows("a", "b", "a").replace(",", delimiter).replace("images/", "images\\")
    samples = read(table(tmp_path, text))
    assert samples.names == ("images/0.png", "images/1.png", "images/2.png")


def test_pandas_index_column_is_not_a_label(tmp_path):
    text = ",image,label\n" + "\n".join(f"{index},images/{index}.png,{label}" for index, label in enumerate("aba"))
    assert read(table(tmp_path, text)).classes == ("a", "b")


def test_the_order_of_rows_does_not_matter(tmp_path):
    lines = rows("a", "b", "a", "b").split("\n")
    first = read(table(tmp_path, "\n".join(lines)))
    second = read(table(tmp_path, "\n".join([lines[0], *reversed(lines[1:])])))
    assert first.names == second.names
    assert np.array_equal(first.targets, second.targets)


def test_repeated_rows_are_kept_once_and_contradicting_rows_all(tmp_path):
    text = rows("a", "b", "a", "b") + "\nimages/0.png,a\nimages/1.png,a\nimages/../images/2.png,a"
    samples = read(table(tmp_path, text))
    assert samples.names == ("images/0.png", "images/1.png", "images/1.png#2", "images/2.png", "images/3.png")
    assert samples.paths[1] == samples.paths[2]
    assert "2 rows repeat" in samples.notes[-1]


def test_a_table_names_images_outside_of_its_folder_only_with_the_option(tmp_path):
    outside = picture(tmp_path / "elsewhere" / "x.png")
    (tmp_path / "set").mkdir()
    source = table(tmp_path / "set", rows("a", "b") + f"\n{outside},a\n../elsewhere/x.png,a")
    words = rf"2 of 4 rows .* outside of the image folder {tmp_path}/set: '{outside}' \(line 4\), '../elsewhere/x.png' \(line 5\)"
    with pytest.raises(DataError, match=f"{words}.*data.image_folder=THAT.*--set data.outside_paths=true"):
        read(source)
    samples = read(source, outside_paths=True)
    assert outside in samples.paths
    assert len(set(samples.names)) == len(samples.names) == 3


def test_paths_into_the_image_folder_may_be_absolute_or_pass_a_link(tmp_path):
    source = table(tmp_path / "set", rows("a", "b"))
    (tmp_path / "link").symlink_to(tmp_path / "set", target_is_directory=True)
    cells = (tmp_path / "set" / "images" / "2.png", tmp_path / "link" / "images" / "3.png", "../link/images/4.png")
    (tmp_path / "set" / "labels.csv").write_text(rows("a", "b") + "".join(f"\n{cell},a" for cell in cells))
    assert read(source).names == tuple(f"images/{index}.png" for index in range(5))


def test_links_inside_of_the_image_folder_may_lead_outside(tmp_path):
    source = table(tmp_path / "set", rows("a", "b") + "\nimages/link.png,a")
    (tmp_path / "set" / "images" / "link.png").symlink_to(picture(tmp_path / "elsewhere" / "x.png"))
    assert "images/link.png" in read(source).names
    (tmp_path / "set" / "labels.csv").unlink()
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert "linked/x.png" in read(source).names


BAD_TABLES = {
    "missing images": (rows(*"ababababab"), {}, "4 of 10 images .* do not exist: 'images/6.png' .*data.extension"),
    "no header": (rows(*"abab").split("\n", 1)[1], {}, "data.header=false"),
    "ambiguous labels": (rows("a,3", "b,4", header="image,label,size"), {}, "several columns that could be the label: 'label', 'size'"),
    "labels outside 0 and 1": (rows("0,1,1", "1,2,0", "0,0,1", header="image,a,b,c"), {}, r"'b' holds '2' \(line 3\)"),
    "labels given outside 0 and 1": (rows("0,1", "1,x", header="image,a,b"), {"label_columns": ("a", "b")}, "must hold 0 or 1"),
    "binary with three": (rows("0", "1", "2"), {"task": "binary"}, "binary needs two classes"),
    "one class": (rows("a", "a"), {}, "one class only"),
    "not numbers": (rows("1", "x", "2"), {"task": "regression"}, r"1 cells of 'label' hold something else: 'x' \(line 3\)"),
    "not a number": (rows("1", "nan", "2"), {"task": "regression"}, "regression needs numbers"),
    "infinite": (rows("1", "inf", "2"), {"task": "regression"}, "regression needs numbers"),
    "no label": (rows("a", "", "b"), {}, r"1 rows .* have no 'label': '' \(line 3\)"),
    "unknown column": (rows("a", "b"), {"label_columns": ("lable",)}, "did you mean 'label'"),
    "unknown split column": (rows("a", "b"), {"split_column": "fold"}, "no column 'fold'"),
    "odd split": (rows("a,train", "b,3", header="image,label,split"), {}, r"holds '3' \(line 3\)"),
    "ragged": (rows("a", "b,c"), {}, "not on lines 3"),
    "twice the same column": (rows("a,b", header="image,x,x"), {}, "several columns named 'x'"),
    "only a header": ("image,label\n", {}, "lists no image"),
    "empty": ("", {}, "is empty"),
    "no image column": ("text,label\nhello,a\nthere,b", {}, "data.image_column=NAME"),
    "two image columns": ("left,right\nimages/0.png,images/1.png", {}, "all look like image paths"),
    "no image folder": (rows("a", "b"), {"image_folder": "nowhere"}, "no folder 'nowhere'"),
    "long form": (rows("a", "b") + "\nimages/0.png,c\nimages/1.png,c", {}, "a|b|c"),
    "many labels for one": (rows("0,1", "1,0", header="image,a,b"), {"task": "multiclass"}, "one label column"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_unusable_tables_are_rejected(tmp_path, name):
    text, options, message = BAD_TABLES[name]
    with pytest.raises(DataError, match=message):
        read(table(tmp_path, text), **options)


def test_numbers_with_a_few_mistakes_are_rejected(tmp_path):
    values = [f"{index}.5" for index in range(120)]
    values[3] = "n/a"
    with pytest.raises(DataError, match=r"holds numbers except 'n/a' \(line 5\)"):
        read(table(tmp_path, rows(*values, header="image,price"), images=120))


def test_several_tables_in_a_folder_are_rejected(tmp_path):
    table(tmp_path, rows("a", "b"))
    (tmp_path / "other.csv").write_text(rows("a", "b"))
    with pytest.raises(DataError, match="holds 2 tables"):
        read(str(tmp_path))
    assert len(read(str(tmp_path / "other.csv")).names) == 2


def test_a_binary_file_is_not_read_as_a_table(tmp_path):
    with pytest.raises(DataError, match="not a text table"):
        read(str(picture(tmp_path / "a.png")))


EXPECTED = {
    "clothing10": ("multiclass", 1784, 10, True),
    "sign_digits10": ("multiclass", 1200, 10, False),
    "shoes": ("binary", 360, 2, False),
    "outfits": ("multilabel", 700, 10, True),
    "sign_value": ("regression", 800, 1, False),
    "broken": ("binary", 58, 2, False),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_real_data_sets_are_read(real_data, name):
    samples = read(str(real_data / name))
    assert (samples.task, len(samples.names), len(samples.classes), samples.splits is not None) == EXPECTED[name]

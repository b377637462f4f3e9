import os
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from trainables.config import DataConfig
from trainables.data import dataset as dataset_module
from trainables.data.dataset import difference, open_dataset, prepare, prepare_from_config
from trainables.data.source_options import SourceOptions
from trainables.errors import DataError, ResourceError
from trainables.images import decode, file_survey, pixel_map
from trainables.objectives import objective


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INJERTO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)).save(path, format="PNG")


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    for index in range(40):
        picture(root / "abcd"[index % 4] / f"{index}.png", index)
    return root


def part_of(dataset, name):
    index = dataset.names.index(name)
    return [part for part, rows in dataset.rows.items() if index in rows]


def test_prepare_makes_a_data_set_of_a_folder(photos):
    dataset = prepare(source=str(photos))
    assert dataset.images.shape == (40, 73, 73, 3)
    assert (dataset.task, dataset.image_size, dataset.median_side, dataset.bits) == ("multiclass", 64, 12, 8)
    assert {part: len(rows) for part, rows in dataset.rows.items()} == {"train": 28, "validation": 6, "test": 6}
    assert sorted(np.concatenate(list(dataset.rows.values())).tolist()) == list(range(40))
    for index, name in enumerate(dataset.names):
        assert dataset.classes[dataset.targets[index]] == name[0]
        with Image.open(photos / name) as image:
            assert np.array_equal(dataset.images[index], pixel_map.square(np.asarray(image), 73, "crop"))


def test_origin_describes_the_files_of_a_prepared_data_set(photos):
    (photos / "a" / "empty.png").write_bytes(b"")
    dataset = prepare(source=str(photos))
    origin = dataset.origin
    assert (origin.location, origin.paths) == (str(photos), dataset.names)
    assert [(photos / path).stat().st_size for path in origin.paths] == origin.contents.lengths.tolist()
    assert origin.contents.problems == {dataset.names.index("a/empty.png"): "empty file"}
    assert len(set(origin.contents.hashes)) == 41
    assert open_dataset(dataset.fingerprint, 64, "crop").origin is None


def test_open_dataset_needs_the_cache_alone(photos):
    dataset = prepare(source=str(photos), image_size=32, aspect="pad")
    for file in photos.rglob("*.png"):
        file.unlink()
    again = open_dataset(dataset.fingerprint, 32, "pad")
    assert np.array_equal(again.images, dataset.images)
    assert np.array_equal(again.targets, dataset.targets)
    assert again.targets.dtype == dataset.targets.dtype
    assert all(np.array_equal(again.rows[part], rows) for part, rows in dataset.rows.items())
    for name in ("task", "classes", "names", "image_size", "aspect", "pixels_key", "bits", "median_side", "notes", "fingerprint"):
        assert getattr(again, name) == getattr(dataset, name)
    with pytest.raises(DataError, match="prepare"):
        open_dataset(dataset.fingerprint, 48, "pad")
    with pytest.raises(DataError, match="prepare it on this machine"):
        open_dataset("0" * 16 + dataset.fingerprint[16:], 32, "pad")


def test_fingerprint_depends_on_contents_labels_and_parts(photos):
    def fingerprint(**options):
        return prepare(source=str(photos), **options).fingerprint

    first = fingerprint()
    assert fingerprint() == first
    assert fingerprint(image_size=32, aspect="pad") == first
    others = {fingerprint(seed=1), fingerprint(options=SourceOptions(classes=("b", "a", "c", "d")))}
    (photos / "a" / "0.png").rename(photos / "b" / "0.png")
    others.add(fingerprint())
    picture(photos / "a" / "4.png", 1000)
    others.add(fingerprint())
    assert len(others | {first}) == 5


def test_prepare_from_config_passes_on_every_setting(photos):
    config = DataConfig(source=str(photos), seed=1, classes=("b", "a", "c", "d"), strict=True)
    dataset = prepare_from_config(config, image_size=32, aspect="pad")
    expected = prepare(str(photos), SourceOptions(classes=("b", "a", "c", "d")), seed=1)
    assert (dataset.fingerprint, dataset.image_size, dataset.aspect) == (expected.fingerprint, 32, "pad")
    (photos / "a" / "bad.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="--strict"):
        prepare_from_config(config)


def test_a_second_prepare_decodes_nothing(photos, monkeypatch):
    first = prepare(source=str(photos))
    monkeypatch.setattr(pixel_map, "decode", None)
    assert prepare(source=str(photos), seed=3).pixels_key == first.pixels_key


def test_unreadable_images_are_left_out_and_eight_are_named(photos):
    for index in range(11):
        (photos / "a" / f"bad{index:02d}.jpg").write_bytes(b"" if index % 2 else b"text")
    dataset = prepare(source=str(photos))
    assert len(dataset.names) == 51
    assert sum(map(len, dataset.rows.values())) == 40
    note = next(note for note in dataset.notes if "cannot be read" in note)
    assert "11 of 51" in note
    assert "a/bad00.jpg (not an image), a/bad01.jpg (empty file)" in note
    assert note.count("bad") == 8
    assert "and 3 more" in note
    with pytest.raises(DataError, match=r"11 of 51 .*--strict"):
        prepare(source=str(photos), strict=True)


def test_images_with_identical_pixels_are_in_one_part(photos):
    for index in range(0, 40, 4):
        with Image.open(photos / "a" / f"{index}.png") as image:
            image.save(photos / "a" / f"{index}_copy.bmp")
    for seed in range(3):
        dataset = prepare(source=str(photos), seed=seed)
        for index in range(0, 40, 4):
            assert part_of(dataset, f"a/{index}.png") == part_of(dataset, f"a/{index}_copy.bmp")


def test_identical_images_with_different_labels_go_to_train_and_are_listed(photos):
    for index in range(0, 40, 4):
        (photos / "b" / f"{index}_as_b.png").write_bytes((photos / "a" / f"{index}.png").read_bytes())
    dataset = prepare(source=str(photos))
    for index in range(0, 40, 4):
        assert part_of(dataset, f"a/{index}.png") == part_of(dataset, f"b/{index}_as_b.png") == ["train"]
    note = next(note for note in dataset.notes if "several labels" in note)
    assert "10 images" in note
    assert "a/0.png (a) = b/0_as_b.png (b)" in note
    with pytest.raises(DataError, match="have several labels"):
        prepare(source=str(photos), strict=True)


def test_copies_in_several_given_parts_move_to_train(tmp_path):
    root = tmp_path / "given"
    for index in range(48):
        picture(root / ("train", "val", "test")[index % 3] / "ab"[index % 2] / f"{index}.png", index)
    (root / "test" / "a" / "leak.png").write_bytes((root / "train" / "a" / "0.png").read_bytes())
    dataset = prepare(source=str(root))
    assert part_of(dataset, "test/a/leak.png") == part_of(dataset, "train/a/0.png") == ["train"]
    assert part_of(dataset, "val/b/1.png") == ["validation"]
    assert any("moved to train: test/a/leak.png = train/a/0.png" in note for note in dataset.notes)


def write_table(photos, header, row):
    files = sorted(photos.rglob("*.png"))
    lines = [f"{file.relative_to(photos).as_posix()},{row(index, file)}" for index, file in enumerate(files)]
    (photos / "labels.csv").write_text("\n".join([f"image,{header}", *lines]))
    return str(photos)


def test_each_group_is_in_one_part(photos):
    source = write_table(photos, "label,group", lambda index, file: f"{file.parent.name},{index % 13}")
    dataset = prepare(source=source)
    sides = {}
    for part, rows in dataset.rows.items():
        for row in rows:
            sides.setdefault(int(row) % 13, set()).add(part)
    assert len(sides) == 13
    assert all(len(parts) == 1 for parts in sides.values())


def test_groups_in_several_given_parts_are_rejected(photos):
    source = write_table(photos, "label,group,split", lambda index, file: f"{file.parent.name},{index // 2},{('train', 'test')[index % 2]}")
    with pytest.raises(DataError, match="20 groups are in several of the given parts"):
        prepare(source=source)
    assert prepare(source, SourceOptions(group_column="", label_columns=("label",))).task == "multiclass"


def test_multilabel_and_regression_targets(photos):
    source = write_table(photos, "red,blue", lambda index, file: f"{index % 2},{int(index % 5 == 0)}")
    multilabel = prepare(source=source)
    assert (multilabel.task, multilabel.targets.shape, multilabel.targets.dtype) == ("multilabel", (40, 2), np.float32)
    source = write_table(photos, "age", lambda index, file: f"{index / 3}")
    regression = prepare(source=source)
    assert (regression.task, regression.classes) == ("regression", ("age",))
    assert regression.targets.tolist() == [index / 3 for index in range(40)]
    assert open_dataset(regression.fingerprint, 64, "crop").targets.tolist() == regression.targets.tolist()


def test_deep_images_share_one_scale(tmp_path):
    for index in range(12):
        (tmp_path / "deep" / "ab"[index % 2]).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "deep" / "ab"[index % 2] / f"{index}.png"), np.full((8, 8), 100 + 80 * index, np.uint16))
    dataset = prepare(source=str(tmp_path / "deep"))
    assert dataset.bits == 10
    assert "16-bit images (12 of 12) use 10 bits: 0 to 1,023 becomes 0 to 255, and larger values 255" in dataset.notes
    assert sorted(dataset.images.max(axis=(1, 2, 3)).tolist()) == [(100 + 80 * index) >> 2 for index in range(12)]


def test_one_hot_pixel_does_not_darken_a_set_of_12_bits(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(20):
        values = rng.integers(0, 4096, (24, 24)).astype(np.uint16)
        values[3, 5] = 0xFFFF if index == 7 else 0
        (tmp_path / "ab"[index % 2]).mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "ab"[index % 2] / f"{index}.png"), values)
    dataset = prepare(source=str(tmp_path), image_size=21)
    assert dataset.bits == 12
    assert dataset.images.mean() > 100


def test_the_decoder_is_part_of_the_fingerprint_and_named_where_it_differs(photos, monkeypatch):
    first = prepare(source=str(photos))
    same, ours = str(photos), decode.DECODER_VERSION.split()
    assert difference(first, first.fingerprint, same, "then") == ""
    monkeypatch.setattr(dataset_module, "DECODER_DIGITS", "12345678")
    for module in (decode, pixel_map, file_survey):
        monkeypatch.setattr(module, "DECODER_VERSION", f"{ours[0]} 1.2.3 {ours[2]}")
    second = prepare(source=same)
    assert second.fingerprint != first.fingerprint
    with pytest.raises(DataError, match="another version of the decoder, Pillow or OpenCV; prepare it again"):
        open_dataset(first.fingerprint, 64, "crop")
    words = f"the images of {same!r} may be decoded to other pixels than when it began: "
    assert difference(second, first.fingerprint, same, "it began") == words + "the decoder, Pillow or OpenCV has another version"
    known = difference(second, first.fingerprint, same, "it began", " ".join(ours))
    assert known == words + f"Pillow 1.2.3 here but {ours[1]} there"
    picture(photos / "a" / "0.png", 1000)
    third = prepare(source=same)
    changed = f"the images or labels of {same!r} have changed since it began (fingerprint {first.fingerprint[:12]} then, "
    assert difference(third, first.fingerprint, same, "it began").startswith(changed)


def test_a_fingerprint_of_an_earlier_version_says_that_the_decoder_differs(photos):
    """Earlier versions wrote the first 16 digits alone."""
    dataset = prepare(source=str(photos))
    assert "decoded to other pixels" in difference(dataset, dataset.fingerprint[:16], "photos", "it began")


def test_the_rare_class_is_what_a_search_of_unequal_classes_looks_for(tmp_path):
    for index in range(30):
        picture(tmp_path / "parts" / ("defect" if index < 4 else "ok") / f"{index}.png", index)
    source = str(tmp_path / "parts")
    dataset = prepare(source)
    targets = dataset.targets[dataset.rows["train"]]
    assert dataset.classes == ("ok", "defect")
    assert objective(dataset.task, targets) == "average_precision"
    assert targets.mean() < 0.2
    majority = prepare(source, SourceOptions(positive="ok"))
    assert objective(majority.task, majority.targets[majority.rows["train"]]) == "auroc"


def test_a_class_with_one_image_is_rejected(photos):
    picture(photos / "lonely" / "1.png", 99)
    with pytest.raises(DataError, match="one image only, and needs two: lonely"):
        prepare(source=str(photos))


def test_a_class_without_readable_images_is_rejected(photos):
    (photos / "spoiled").mkdir()
    (photos / "spoiled" / "1.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="no image that can be read: spoiled"):
        prepare(source=str(photos))


def test_too_few_images_are_rejected(tmp_path):
    for index in range(6):
        picture(tmp_path / "few" / "ab"[index % 2] / f"{index}.png", index)
    with pytest.raises(DataError, match="6 images are too few"):
        prepare(source=str(tmp_path / "few"))


def test_a_class_without_training_images_is_rejected(photos):
    source = write_table(photos, "label,split", lambda index, file: f"{file.parent.name},{'test' if file.parent.name == 'd' else 'train'}")
    with pytest.raises(DataError, match="no training image of d"):
        prepare(source=source)


def test_a_constant_target_is_rejected(photos):
    with pytest.raises(DataError, match="same 'age'"):
        prepare(source=write_table(photos, "age", lambda index, file: "7.5"))


def test_a_folder_of_git_lfs_pointers_is_rejected(tmp_path):
    for index in range(10):
        path = tmp_path / "lfs" / "ab"[index % 2] / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{index:064d}\nsize 12345\n")
    with pytest.raises(DataError, match=r"all 10 files .* are Git LFS pointers.*git lfs pull"):
        prepare(source=str(tmp_path / "lfs"))


def test_a_rejected_source_leaves_nothing_in_the_cache(photos, cache):
    with pytest.raises(ResourceError):
        prepare(source=str(photos), budget_bytes=1000)
    assert not list(cache.rglob("images.npy"))
    assert not (cache / "datasets").exists()


def test_the_broken_folder_gives_a_note_for_each_defect(real_data):
    dataset = prepare(source=str(real_data / "broken"))
    notes = "\n".join(dataset.notes)
    for words in ("bomb_20000x20000.png (over 100 megapixels)", "empty.jpg (empty file)", "pointer.jpg (Git LFS pointer)"):
        assert words in notes
    for words in ("text_named.jpg (not an image)", "truncated.jpg (truncated)", "one_pixel.png (smaller", "they are empty: empty_class"):
        assert words in notes
    assert sum(map(len, dataset.rows.values())) == 52
    for name in ("dress/same_image.jpg", "hat/same_image_other_label.jpg"):
        assert part_of(dataset, name) == ["train"]


def test_clothing10_keeps_its_given_parts(real_data):
    dataset = prepare(source=str(real_data / "clothing10"))
    assert len(dataset.names) == 1784
    for part, rows in dataset.rows.items():
        assert {dataset.names[row].split("/")[0] for row in rows} == {part}


@pytest.mark.skipif(sys.platform != "linux", reason="file names of any bytes are Linux's")
def test_file_names_that_are_not_utf8_are_kept(photos):
    for name in (b"caf\xe9", b"\x80\x81"):
        folder = os.fsencode(photos) + b"/" + name
        os.mkdir(folder)
        for index in range(4):
            with open(folder + f"/{index}.png".encode(), "wb") as file:
                Image.new("RGB", (8, 8), (index * 40 + len(name), 0, 0)).save(file, "PNG")
    dataset = prepare(source=str(photos))
    assert len(dataset.classes) == 6
    assert open_dataset(dataset.fingerprint, 64, "crop").names == dataset.names

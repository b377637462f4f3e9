from search.trackers.tracker import flat, study_hash


def test_flat_joins_nested_keys_and_turns_values_into_plain_ones():
    values = flat({"a": 1, "b": None, "c": (1, "x"), "d": {"e": True, "f": {"g": 0.5}}})
    assert values == {"a": 1, "b": "None", "c": "1, x", "d.e": True, "d.f.g": 0.5}


def test_the_study_hash_depends_on_the_folder_alone(tmp_path):
    first, second = study_hash(tmp_path / "calm-fig"), study_hash(tmp_path / "calm-fog")
    assert first != second
    assert first == study_hash(tmp_path / "calm-fig")
    assert len(first) == 16

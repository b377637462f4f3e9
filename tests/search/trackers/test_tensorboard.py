from search.events import Event
from tests.search.trackers.tracked_search import BEFORE_PAUSE, CONFIG, SEARCH, end, epochs, track


def event_files(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    files = EventAccumulator(str(folder))
    files.Reload()
    return files


def scalars(files, tag="accuracy"):
    return [(event.step, round(event.value, 6)) for event in files.Scalars(tag)]


def test_tensorboard_has_the_scalars_and_the_end_of_each_trial(tmp_path):
    assert track("tensorboard", tmp_path, SEARCH) == []
    folder = tmp_path / "calm-fig" / "tensorboard"
    assert sorted(path.name for path in folder.iterdir()) == ["00000", "00001"]
    finished, stopped = event_files(folder / "00000"), event_files(folder / "00001")
    assert scalars(finished) == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert set(finished.Tags()["scalars"]) == {"objective", "accuracy", "loss"}
    assert scalars(stopped) == [(1, 0.1), (2, 0.2)]
    assert stopped.Tensors("ended/text_summary")[0].tensor_proto.string_val == [b"stopped: rung 33%"]


def test_tensorboard_shows_the_configuration_in_its_hparams_tab(tmp_path):
    from tensorboard.plugins.hparams import metadata

    assert track("tensorboard", tmp_path, SEARCH) == []
    content = event_files(tmp_path / "calm-fig" / "tensorboard" / "00000").PluginTagToContent("hparams")
    start = metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG])
    assert start.hparams["learning_rate"].number_value == 0.0125
    assert start.hparams["backbone"].string_value == CONFIG.backbone
    experiment = metadata.parse_experiment_plugin_data(content[metadata.EXPERIMENT_TAG])
    assert [info.name.tag for info in experiment.metric_infos] == ["accuracy"]
    assert metadata.SESSION_END_INFO_TAG in content


def test_tensorboard_has_each_epoch_once_after_a_pause(tmp_path):
    assert track("tensorboard", tmp_path, BEFORE_PAUSE, interrupted=True) == []
    assert track("tensorboard", tmp_path, epochs(0, 3, first=2)) == []
    assert scalars(event_files(tmp_path / "calm-fig" / "tensorboard" / "00000")) == [(1, 0.1), (2, 0.2), (3, 0.3)]


def test_tensorboard_has_each_epoch_once_after_a_lost_worker(tmp_path):
    retried = Event("retry", 0, CONFIG, epoch=1, reason="lost worker")
    assert track("tensorboard", tmp_path, [*epochs(0, 2), retried, *epochs(0, 3, first=2)[1:], end("finished", 0)]) == []
    assert scalars(event_files(tmp_path / "calm-fig" / "tensorboard" / "00000")) == [(1, 0.1), (2, 0.2), (3, 0.3)]

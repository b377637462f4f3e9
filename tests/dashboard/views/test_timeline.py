from tests.dashboard.screens import all_text, open_screen


def test_the_timeline_shows_workers_and_nodes(gallery_storage):
    app = open_screen("timeline", "calm-fig")
    assert "2 workers (node and process)" in all_text(app)
    assert list(app.dataframe[0].value["node"]) == ["node-1", "node-2"]
    assert "GPU memory in use" not in app.dataframe[0].value.columns


def test_an_older_record_has_an_empty_timeline(gallery_storage):
    app = open_screen("timeline", "old-fig")
    assert "No trial has reported its worker" in all_text(app)
    assert "has not reported its nodes" in all_text(app)

import json

from tests.dashboard.screens import after_refresh, open_study, without_errors


def test_a_zoom_is_kept_when_trials_arrive_until_it_is_reset(played):
    app = open_study("calm-fig")
    app.session_state["zoom-curves-calm-fig"] = {"x": [20, 60], "y": [0.2, 0.5]}
    played.run(0.6, 0.7, 0.8, 0.95)
    assert axes(after_refresh(app)) == ([20, 60], [0.2, 0.5])
    assert axes(without_errors(app.button(key="reset-curves-calm-fig").click().run())) == ([0, 102], None)


def axes(app):
    layout = json.loads(app.get("plotly_chart")[1].proto.spec)["layout"]
    return layout["xaxis"]["range"], layout["yaxis"].get("range")

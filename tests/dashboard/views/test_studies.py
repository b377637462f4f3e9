from dashboard.markdown_text import escape
from tests.dashboard.gallery import add_old_study
from tests.dashboard.screens import NASTY, all_text, button, link_labels, open_screen, open_study, without_errors


def test_a_study_has_a_card_with_a_link(played):
    app = open_screen("studies")
    assert app.metric[0].value == "0.8"
    assert app.metric[0].delta == "+0.1"
    assert "2 finished" in all_text(app)
    assert "1 stopped" in all_text(app)
    link = app.main.get("page_link")[0].proto
    assert link.query_string == "study=calm-fig"


def test_a_study_of_another_program_does_not_hide_the_cards_of_others(gallery_storage):
    app = open_screen("studies")
    assert "was not made by injerto" in all_text(app)
    assert len(app.metric) == 6


def test_markup_in_a_study_name_is_escaped(gallery_storage):
    assert open_study(NASTY).title[0].value == escape(NASTY)
    assert f"**{escape(NASTY)}** →" in link_labels(open_screen("studies"))


def test_more_than_twenty_cards_are_shown_after_a_click(empty_storage, tmp_path):
    for number in range(22):
        add_old_study(empty_storage, tmp_path, f"fig-{number}", {}, trials=1)
    app = open_screen("studies")
    assert len(app.metric) == 20
    assert len(without_errors(button(app, "Show all 22 studies").click().run()).metric) == 22

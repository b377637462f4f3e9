import logging
import warnings

from trainables.worker.journal import LONGEST_LINE, MOST_LINES, Journal
from trainables.worker.trial_report import read_trial_report, write_trial_report


def texts(journal):
    return [line.split("  ", 1)[1] for line in journal.lines]


def test_warnings_and_logged_warnings_are_heard_while_it_listens():
    journal = Journal()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with journal.listening():
            warnings.warn("a rate that is odd", UserWarning, stacklevel=1)
            logging.getLogger("some.library").error("a file\n is odd")
            logging.getLogger("some.library").info("nothing to see")
        warnings.warn("not heard", UserWarning, stacklevel=1)
    logging.getLogger("some.library").error("not heard either")
    assert texts(journal) == ["warning: UserWarning: a rate that is odd", "error: a file is odd"]


def test_only_the_last_lines_are_kept_and_none_is_endless():
    journal = Journal()
    for number in range(MOST_LINES + 5):
        journal.say(f"line {number} " + "x" * 2 * LONGEST_LINE)
    assert len(journal.lines) == MOST_LINES
    assert texts(journal)[0].startswith("line 5 ")
    assert max(map(len, texts(journal))) == LONGEST_LINE


def test_what_an_earlier_worker_said_comes_first(tmp_path):
    before, after = Journal(), Journal()
    before.say("epoch 1")
    write_trial_report(str(tmp_path), before.lines, None)
    after.say("goes on")
    after.recall(read_trial_report(str(tmp_path))["log"])
    after.say("epoch 2")
    assert texts(after) == ["epoch 1", "goes on", "epoch 2"]


def test_a_trial_that_has_saved_nothing_tells_nothing(tmp_path):
    assert read_trial_report(str(tmp_path / "none")) == {}

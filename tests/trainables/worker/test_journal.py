import logging
import warnings

from trainables.worker.journal import MAX_LINE_LENGTH, MAX_LINES, Journal
from trainables.worker.trial_report import read_trial_report, write_trial_report


def texts(journal):
    return [line.split("  ", 1)[1] for line in journal.lines]


def test_warnings_and_logged_warnings_are_captured_inside_the_block_only():
    journal = Journal()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with journal.capture_warnings():
            warnings.warn("an unusual rate", UserWarning, stacklevel=1)
            logging.getLogger("some.library").error("an unusual\n file")
            logging.getLogger("some.library").info("not captured: only information")
        warnings.warn("not captured", UserWarning, stacklevel=1)
    logging.getLogger("some.library").error("not captured either")
    assert texts(journal) == ["warning: UserWarning: an unusual rate", "error: an unusual file"]


class Unprintable:
    def __str__(self):
        raise ValueError("no text")


def test_a_log_line_that_cannot_be_formatted_raises_nothing_and_keeps_its_text():
    journal, logger, raising = Journal(), logging.getLogger("some.library"), logging.raiseExceptions
    logging.raiseExceptions = False  # the other handlers of the test run
    try:
        with journal.capture_warnings():
            logger.warning("the rate is %d", "x")
            logger.error("%s and %s", "one")
            logger.warning(Unprintable())
            logger.warning("a good line of %s", "this library")
    finally:
        logging.raiseExceptions = raising
    assert texts(journal) == [
        "warning: the rate is %d (some.library: TypeError in the arguments of this line)",
        "error: %s and %s (some.library: TypeError in the arguments of this line)",
        "warning: Unprintable (some.library: ValueError in the arguments of this line)",
        "warning: a good line of this library",
    ]


def test_the_journal_keeps_the_last_lines_and_cuts_long_ones():
    journal = Journal()
    for number in range(MAX_LINES + 5):
        journal.add(f"line {number} " + "x" * 2 * MAX_LINE_LENGTH)
    assert len(journal.lines) == MAX_LINES
    assert texts(journal)[0].startswith("line 5 ")
    assert max(map(len, texts(journal))) == MAX_LINE_LENGTH


def test_the_lines_of_an_earlier_worker_come_first(tmp_path):
    before, after = Journal(), Journal()
    before.add("epoch 1")
    write_trial_report(str(tmp_path), before.lines, None)
    after.add("continues")
    after.prepend(read_trial_report(str(tmp_path))["log"])
    after.add("epoch 2")
    assert texts(after) == ["epoch 1", "continues", "epoch 2"]


def test_a_trial_without_a_report_has_an_empty_one(tmp_path):
    assert read_trial_report(str(tmp_path / "none")) == {}

import math

from hypothesis import given
from hypothesis import strategies as st

from search.formatting import GAP, LEVELS, amount, brief_configuration, duration, number, one_line, sparkline
from trainables.config import TrialConfig

CONFIG = TrialConfig(backbone="resnet18", unfrozen_stages=2, epochs=4)
UNITS = {"d": 86400, "h": 3600, "min": 60, "s": 1}
values = st.floats(allow_nan=True, allow_infinity=True)


def test_a_configuration_on_one_line():
    assert brief_configuration(CONFIG.model_dump()) == "resnet18, adamw 0.001, unfrozen 2, perceptron, batch 32, augment 0.25"
    assert "head 2×256" in brief_configuration(CONFIG.model_copy(update={"head_layers": 2}).model_dump())
    listed = CONFIG.model_copy(update={"head": ("dense 64 relu", "dense")})
    assert "head dense 64 relu → dense, batch" in brief_configuration(listed.model_dump())


def test_a_curve_as_blocks():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == LEVELS
    assert sparkline([0.1, math.nan, 0.9]) == "▁·█"
    assert sparkline([0.5, 0.5]) == "▄▄"
    assert sparkline(range(32), 8) == LEVELS
    assert sparkline([]) == ""


@given(st.lists(values, max_size=50), st.integers(1, 30))
def test_a_curve_has_its_width_its_extremes_and_its_gaps(curve, width):
    drawn = sparkline(curve, width)
    assert len(drawn) == min(len(curve), width)
    assert set(drawn) <= {*LEVELS, GAP}
    if curve:
        assert (drawn[-1] == GAP) == (not math.isfinite(curve[-1]))
    if len(curve) <= width and len({value for value in curve if math.isfinite(value)}) > 1:
        assert LEVELS[0] in drawn
        assert LEVELS[-1] in drawn


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.integers(1, 30))
def test_a_rising_curve_is_drawn_rising(curve, width):
    drawn = sparkline(sorted(curve), width)
    assert list(drawn) == sorted(drawn, key=LEVELS.index)


def test_durations():
    assert [duration(seconds) for seconds in (0, 0.4, 45, 59.6, 185, 3599.6, 4800, 93600, -3)] == [
        *("0 s", "0 s", "45 s", "1 min", "3 min 5 s", "1 h", "1 h 20 min", "1 d 2 h", "0 s")
    ]


@given(st.floats(0, 1e7))
def test_a_duration_is_exact_to_a_thirtieth(seconds):
    words = duration(seconds).split()
    seconds_in_words = sum(int(count) * UNITS[unit] for count, unit in zip(words[::2], words[1::2], strict=True))
    assert abs(seconds_in_words - seconds) <= max(0.5, seconds / 30)
    assert len(words) <= 4


@given(st.floats(0, 1e7), st.floats(0, 1e7))
def test_a_longer_duration_never_reads_shorter(one, other):
    def seconds_in_words(seconds):
        words = duration(seconds).split()
        return sum(int(count) * UNITS[unit] for count, unit in zip(words[::2], words[1::2], strict=True))

    assert seconds_in_words(min(one, other)) <= seconds_in_words(max(one, other))


def test_amounts():
    assert amount(3, 12, "trials") == "3 of 12 trials"
    assert amount(185, 7200, "s") == "3 min 5 s of 2 h"
    assert amount(0.4321, 2, "GPU-h") == "0.432 of 2 GPU-h"
    assert number(12345.6) == "12,346"


@given(st.text())
def test_text_from_outside_is_on_one_line_without_control_characters(text):
    cleaned = one_line(text)
    assert cleaned.isprintable()
    assert cleaned == one_line(cleaned)
    assert [c for c in cleaned if c != " "] == [c for c in text if c.isprintable() and c != " "]

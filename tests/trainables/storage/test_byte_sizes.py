import pytest

from trainables.storage.byte_sizes import parse_bytes, show_bytes


@pytest.mark.parametrize(
    ("text", "count"),
    [
        *(("20GB", 20 * 10**9), ("1.5 kB", 1500), ("7", 7), ("1e9", 10**9), ("500mb", 5 * 10**8), ("1.15GB", 1.15e9), ("3k", 3000)),
        *(("2 MiB", 2 << 20), ("1.5GiB", 3 << 29), ("3Ki", 3072)),
    ],
)
def test_parse_bytes_reads_numbers_and_units(text, count):
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["plenty", "", "GB", "-1", "1..2", "1e999", "20 parsecs"])
def test_parse_bytes_rejects_other_text(text):
    with pytest.raises(ValueError, match="must be a number of bytes, or a number and kB, MB, GB or TB such as 20GB, or KiB"):
        parse_bytes(text)


@pytest.mark.parametrize(("count", "text"), [(1_500_000_000, "1.5 GB"), (999, "999 bytes"), (95_232, "95.2 kB"), (2 * 10**15, "2000 TB")])
def test_show_bytes_rounds_to_three_digits(count, text):
    assert show_bytes(count) == text

"""The rule for the name of a study. The name is also that of a folder, a part of a URL and a word on a command line."""

import re

STUDY_NAME = re.compile(r"(?!\.+$)[A-Za-z0-9._][A-Za-z0-9._-]{0,63}")
STUDY_NAME_RULE = "1 to 64 letters, digits, dots, underscores or hyphens, and begin with no hyphen"


def is_study_name(value: str) -> bool:
    """Return whether a text follows ``STUDY_NAME_RULE`` and is not dots only, as ``.`` and ``..`` name folders already."""
    return STUDY_NAME.fullmatch(value) is not None

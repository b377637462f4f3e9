"""The one rule for the name of a study, which is also the name of a folder, a part of a URL and a word on a command line."""

import re

STUDY_NAME = re.compile(r"(?!\.+$)[A-Za-z0-9._][A-Za-z0-9._-]{0,63}")
STUDY_NAME_RULE = "1 to 64 letters, digits, dots, underscores or hyphens, and begin with no hyphen"


def is_study_name(value: str) -> bool:
    """Say whether a text can name a study. ``.`` and ``..`` name folders already, and a leading hyphen begins an option."""
    return STUDY_NAME.fullmatch(value) is not None

"""Text from a record as Markdown that shows it unchanged."""

import re


def escape(text: object) -> str:
    """Return a text on one line with every ASCII punctuation mark escaped, so that Markdown shows it as it is."""
    whole = str(text).encode("utf-8", "replace").decode()
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(whole.split()))

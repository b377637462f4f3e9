"""Escapes text from a record, so that Markdown shows it unchanged."""

import re


def escape(text: object) -> str:
    """Return `text` as Markdown that shows it as it is: ASCII punctuation is escaped, and a run of white space becomes one space."""
    whole = str(text).encode("utf-8", "replace").decode()
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(whole.split()))

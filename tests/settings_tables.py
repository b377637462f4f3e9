"""The tables of settings in the package pages, made from the models: ``python -m tests.settings_tables`` writes them anew."""

import re
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from search.config import SearchConfig
from tests.paths import REPOSITORY
from trainables.config import TrialConfig

PAGES = {"search/README.md": SearchConfig, "trainables/README.md": TrialConfig}
TABLE = re.compile(r"(?<=<!-- settings -->\n).*?(?=<!-- end of settings -->)", re.DOTALL)


def settings_table(kind: type[BaseModel]) -> str:
    """Return a Markdown table with a row for each described field of a model, nested models included: key, description, default."""
    rows = [f"| `{key}` | {description} | {default} |" for key, description, default in _fields(kind)]
    return "\n".join(["| key | what it is | default |", "|---|---|---|", *rows]) + "\n"


def with_tables(page: str, text: str) -> str:
    """Return the text of a page with its table as the model has it now. Raises ``ValueError`` for a page without the two marks."""
    if not TABLE.search(text):
        raise ValueError(f"{page} has no table between <!-- settings --> and <!-- end of settings -->")
    return TABLE.sub(lambda _: settings_table(PAGES[page]), text)


def _fields(kind: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    for name, field in kind.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _fields(inner, f"{prefix}{name}.")
        elif field.description is not None:
            description = (field.description + _choices(inner)).replace("|", "\\|")
            yield prefix + name, description, _default(field.get_default(call_default_factory=True))


def _choices(annotation: Any) -> str:
    choices = [str(choice) for kind in (annotation, *get_args(annotation)) if get_origin(kind) is Literal for choice in get_args(kind)]
    return f": {', '.join(choices)}" if choices else ""


def _default(value: Any) -> str:
    if value is None or value in ({}, (), ""):
        return ""
    return f"`{', '.join(map(str, value))}`" if isinstance(value, tuple | list) else f"`{value}`"


def main() -> None:
    """Write every table anew."""
    for page in PAGES:
        path = REPOSITORY / page
        path.write_text(with_tables(page, path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

"""`SourceOptions`, the settings that control how a source of labelled images is read."""

from dataclasses import dataclass

from trainables.config import TaskName


@dataclass(frozen=True)
class SourceOptions:
    """The settings for reading an image folder or a CSV file. `DataConfig` has the same fields and explains them."""

    task: TaskName | None = None
    image_column: str | None = None
    label_columns: tuple[str, ...] = ()
    header: bool = True
    extension: str = ""
    strip_prefix: str = ""
    image_folder: str | None = None
    split_column: str = "split"
    group_column: str = "group"
    classes: tuple[str, ...] = ()
    positive: str | None = None
    outside_paths: bool = False


DEFAULT = SourceOptions()

from dataclasses import asdict

from trainables.config import DataConfig
from trainables.data.source_options import SourceOptions


def test_source_options_have_the_fields_and_defaults_of_the_configuration():
    assert asdict(SourceOptions()) == DataConfig().model_dump(exclude={"source", "seed", "strict"})

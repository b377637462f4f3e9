import sys
from importlib.metadata import packages_distributions

from dashboard import layout


def test_no_module_has_the_name_of_an_installed_package():
    """Streamlit puts the app's folder first on the path, where a module would hide the package."""
    modules = {path.stem for path in layout.VIEWS.parent.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert not modules & ({*packages_distributions(), *sys.stdlib_module_names} - {"__init__"})

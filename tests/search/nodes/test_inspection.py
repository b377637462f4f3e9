import re

import pytest

from search.nodes.inspection import CHECKS, Requirements, inspect_node
from search.nodes.versions import versions
from trainables.storage.root import Root


def requirements(**changes):
    values = {"versions": versions(), "bytes": 1000, "weights": (("efficientnet_lite0", "imagenet"),), "manifest": None, "root": None}
    return Requirements(**values | {"probe": ".probe"} | changes)


def test_every_check_passes_on_a_node_that_has_everything(tmp_path):
    Root(tmp_path).write(".probe", b"the driver")
    report = inspect_node(requirements(root=str(tmp_path)), 0)
    assert list(report.findings) == list(CHECKS)
    assert all(finding.ok for finding in report.findings.values()), report
    assert [path.name for path in tmp_path.iterdir()] == [".probe"]


@pytest.mark.parametrize(
    ("changes", "gpus", "check", "text"),
    [
        ({"versions": versions() | {"torch": "1.0"}}, 0, "versions", r"torch .* \(driver: 1.0\); give every node the same image"),
        ({}, 2, "GPUs", "a trial takes 2 GPUs but torch .* finds none here"),
        ({"bytes": 10**18}, 0, "disk", "but the images need (1e.06|1000000) TB; free some space, or set INJERTO_CACHE"),
        ({"root": "/nowhere/at/all"}, 0, "storage", "/nowhere/at/all on this node is not the driver's"),
        ({"weights": (("resnet18", "/nowhere/w.pth"),)}, 0, "weights", "no weights file '/nowhere/w.pth'"),
        ({"weights": (("timm:efficientnet_lite1", "imagenet"),)}, 0, "weights", "no weights for timm:efficientnet_lite1"),
        ({"manifest": "/nowhere/data.json.gz"}, 0, "data", "there is no manifest at /nowhere/data.json.gz"),
    ],
)
def test_each_check_fails_alone_and_names_the_remedy(changes, gpus, check, text):
    findings = inspect_node(requirements(**changes), gpus).findings
    assert [name for name, finding in findings.items() if not finding.ok] == [check]
    assert re.search(text, findings[check].text), findings[check].text


def test_a_node_without_a_package_names_it(monkeypatch):
    required = requirements(versions=versions() | {"no-such-package": "1.0"})
    monkeypatch.setattr("search.nodes.versions.PACKAGES", ("ray", "no-such-package"))
    finding = inspect_node(required, 0).findings["versions"]
    assert not finding.ok
    assert finding.text.startswith("without no-such-package: no-such-package not installed (driver: 1.0); give every node the same image")

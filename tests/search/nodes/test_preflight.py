import re

import pytest

from cluster.on_each_node import Answer, Node
from search.nodes.inspection import CHECKS, Finding, Report, Wanted, inspect
from search.nodes.preflight import MOST_ROWS, Outcome, clock, table
from search.nodes.versions import versions
from trainables.storage.locations import Root


def node(name):
    return Node(name, name, {"CPU": 4.0}, head=False)


def wanted(**changes):
    asked = {"versions": versions(), "bytes": 1000, "weights": (("mobilenet_v3_small", "builtin"),), "manifest": None, "root": None}
    return Wanted(**asked | {"probe": ".probe"} | changes)


def test_a_node_that_has_everything(tmp_path):
    Root(tmp_path).write(".probe", b"the driver")
    report = inspect(wanted(root=str(tmp_path)), 0)
    assert list(report.findings) == list(CHECKS)
    assert all(finding.well for finding in report.findings.values()), report
    assert [path.name for path in tmp_path.iterdir()] == [".probe"]


@pytest.mark.parametrize(
    ("changes", "gpus", "check", "words"),
    [
        ({"versions": versions() | {"torch": "1.0"}}, 0, "versions", r"torch .* \(driver: 1.0\); give every node the same image"),
        ({}, 2, "GPUs", "Ray counts 2 GPUs here but torch .* sees none"),
        ({"bytes": 10**18}, 0, "disk", "and the images need 1e.06 TB|and the images need 1000000 TB; make room, or set INJERTO_CACHE"),
        ({"root": "/nowhere/at/all"}, 0, "storage", "/nowhere/at/all is not the driver's"),
        ({"weights": (("resnet18", "/nowhere/w.pth"),)}, 0, "weights", "no weights file '/nowhere/w.pth'"),
        ({"manifest": "/nowhere/data.json.gz"}, 0, "data", "there is no manifest at /nowhere/data.json.gz"),
    ],
)
def test_what_a_node_lacks_is_told_with_the_remedy(changes, gpus, check, words):
    findings = inspect(wanted(**changes), gpus).findings
    assert [name for name, finding in findings.items() if not finding.well] == [check]
    assert re.search(words, findings[check].words), findings[check].words


def test_an_image_without_a_package_says_so(monkeypatch):
    asked = wanted(versions=versions() | {"no-such-package": "1.0"})
    monkeypatch.setattr("search.nodes.versions.PACKAGES", ("ray", "no-such-package"))
    found = inspect(asked, 0).findings["versions"]
    assert not found.well
    assert found.words.startswith("without no-such-package: no-such-package not installed (driver: 1.0); give every node the same image")


@pytest.mark.parametrize(
    ("there", "well", "words"),
    [(10.5, True, "in step"), (5.0, True, "5 s off"), (100.0, False, "its clock is 89 s from the driver's"), (-60.0, False, "70 s from")],
)
def test_clocks(there, well, words):
    found = clock(there, 10.0, 11.0)
    assert found.well == well
    assert words in found.words


def outcome(name, failing=None):
    findings = {check: Finding(check != failing, "well" if check != failing else f"wrong\x1b[31m {'x' * 60}") for check in CHECKS}
    return Outcome(node(name), findings)


def test_the_table_has_a_row_a_node():
    drawn = table([outcome("alpha"), outcome("beta", "disk")])
    lines = drawn.splitlines()
    assert [line.split()[0] for line in lines] == ["node", "alpha", "beta"]
    assert all(check in lines[0] for check in CHECKS)
    assert lines[1].count("✓") == len(CHECKS)
    assert lines[2].count("✗") == 1
    assert "\x1b" not in drawn


def test_of_very_many_nodes_those_that_fail_come_first():
    drawn = table([outcome(f"node{number:03}", "disk" if number == 77 else None) for number in range(90)])
    assert drawn.splitlines()[1].startswith("node077")
    assert drawn.splitlines()[-1] == f"and {90 - MOST_ROWS} more nodes"


def test_a_node_that_gave_no_answer_fails():
    from search.nodes.preflight import _outcome

    assert _outcome(Answer(node("alpha"), error="no answer within 120 s")).failures == {"versions": "no answer within 120 s"}
    report = Report(0.0, {"disk": Finding(True, "plenty")})
    assert _outcome(Answer(node("alpha"), report, sent=0.0, came=1.0)).failures == {}

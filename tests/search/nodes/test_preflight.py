import pytest

from cluster.on_each_node import Answer, Node
from search.nodes.inspection import CHECKS, Finding, NodeReport
from search.nodes.preflight import MAX_ROWS, NodeFindings, check_clock, findings_of, findings_table


def node(name):
    return Node(name, name, {"CPU": 4.0}, head=False)


@pytest.mark.parametrize(
    ("node_time", "ok", "text"),
    [(10.5, True, "in step"), (5.0, True, "5 s off"), (100.0, False, "its clock is 89 s from the driver's"), (-60.0, False, "70 s from")],
)
def test_clock_skew_is_judged(node_time, ok, text):
    finding = check_clock(node_time, 10.0, 11.0)
    assert finding.ok == ok
    assert text in finding.text


def findings(name, failing=None):
    by_check = {check: Finding(check != failing, "well" if check != failing else f"wrong\x1b[31m {'x' * 60}") for check in CHECKS}
    return NodeFindings(node(name), by_check)


def test_the_table_has_a_row_for_each_node():
    table = findings_table([findings("alpha"), findings("beta", "disk")])
    lines = table.splitlines()
    assert [line.split()[0] for line in lines] == ["node", "alpha", "beta"]
    assert all(check in lines[0] for check in CHECKS)
    assert lines[1].count("✓") == len(CHECKS)
    assert lines[2].count("✗") == 1
    assert "\x1b" not in table


def test_a_long_table_shows_failing_nodes_first_and_counts_the_rest():
    table = findings_table([findings(f"node{number:03}", "disk" if number == 77 else None) for number in range(90)])
    assert table.splitlines()[1].startswith("node077")
    assert table.splitlines()[-1] == f"and {90 - MAX_ROWS} more nodes"


def test_a_node_without_an_answer_fails():
    assert findings_of(Answer(node("alpha"), error="no answer within 120 s")).failures == {"versions": "no answer within 120 s"}
    report = NodeReport(0.0, {"disk": Finding(True, "plenty")})
    assert findings_of(Answer(node("alpha"), report, sent=0.0, came=1.0)).failures == {}

import pytest
from optuna.trial import TrialState

from tests.search.running_study import RunningStudy


@pytest.fixture
def running_study(tmp_path):
    with RunningStudy(tmp_path) as study:
        yield study


@pytest.fixture
def halfway(running_study):
    running_study.add_ended(TrialState.COMPLETE, 0.2, 0.4, 0.5, 0.6)
    running_study.add_ended(TrialState.PRUNED, 0.1, reason="rung 11%")
    running_study.add_ended(TrialState.COMPLETE, 0.3, 0.5, 0.8, 0.9)
    running_study.add_ended(TrialState.FAIL, reason="non-finite: loss is nan [x]")
    running_study.add_running(0.25, 0.5)
    return running_study

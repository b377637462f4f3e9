from cluster.environment import set_environment


def test_usage_statistics_are_off_unless_the_user_turns_them_on():
    off, on = {}, {"RAY_USAGE_STATS_ENABLED": "1"}
    for found in (off, on):
        set_environment(environment=found)
    assert (off["RAY_USAGE_STATS_ENABLED"], on["RAY_USAGE_STATS_ENABLED"]) == ("0", "1")
    assert "RAY_USAGE_STATS_REPORT_URL" not in on

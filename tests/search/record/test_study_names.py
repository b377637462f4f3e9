from search.record.study_names import ADJECTIVES, NOUNS, fresh_name


def test_fresh_names_are_readable_and_unused():
    every = [f"{adjective}-{noun}" for adjective in ADJECTIVES for noun in NOUNS]
    assert fresh_name(every[1:]) == every[0]
    assert fresh_name([]) in every
    assert fresh_name(every) not in every

"""What is known of image files before they are decoded."""

import numpy as np
import pytest

from trainables.images.file_survey import FileSurvey, image_size_rule, survey_files


def test_survey_files_hashes_files_and_reads_headers(cache, paths):
    found = survey_files(paths)
    assert found.sizes[0].tolist() == [40, 20]
    assert found.problems == {30: "empty file"}
    assert found.bits == 8
    assert found.median_side == 34
    assert len(set(found.hashes)) == 31
    assert survey_files(paths).key == found.key
    paths[0].write_bytes(paths[1].read_bytes())
    assert survey_files(paths).key != found.key
    assert survey_files(paths).hashes[0] == found.hashes[1]


@pytest.mark.parametrize(
    ("side", "gpu", "expected"),
    [(8, False, 64), (64, False, 64), (65, False, 96), (2000, False, 96)]
    + [(8, True, 96), (97, True, 128), (128, True, 128), (200, True, 224), (2000, True, 224)],
)
def test_image_size_rule(side, gpu, expected):
    sizes = np.array([[side, 5000], [side, side], [0, 0]])
    assert image_size_rule(FileSurvey(("", "", ""), np.zeros(3, np.int64), 8, {2: "bad"}, sizes), gpu=gpu) == expected

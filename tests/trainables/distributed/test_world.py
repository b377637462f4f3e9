import numpy as np
import pytest

from tests.trainables.replicating import exchange
from trainables.distributed.world import World


def test_tensors_of_every_dtype_and_layout_are_exchanged(pair):
    strided, *rest = pair.run(exchange)[0]
    assert pair.run(exchange)[1] == [strided, *rest]
    assert strided == [[0.0, 4.5], [1.5, 6.0], [3.0, 7.5]]
    assert rest[:3] == [[[3.0, 3.0], [3.0, 3.0]], 7, [10.0, 10.0, 10.0]]
    assert rest[3:] == [[[1.0, 1.0], [1.0, 1.0]], 3, [0.0, 0.0, 0.0], [0, 1, 2, 3, 4]]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [1, 2, 5, 14])
def test_shares_have_one_size_and_hold_all_rows_in_order(size, count):
    rows = np.arange(10, 10 + count)
    shares = [World(rank, size).share(rows) for rank in range(size)]
    assert len({len(share) for share in shares}) == 1
    assert np.concatenate(shares)[:count].tolist() == rows.tolist()

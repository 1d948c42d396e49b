"""How much is done at once."""

import pytest

from lectopt._internal.chunk_sizes import next_size


@pytest.mark.parametrize(
    ("size", "seconds", "expected"),
    [(10, 1.0, 5), (10, 0.5, 10), (10, 0.3, 16), (10, 0.1, 20), (10, 0.0, 20), (1, 9.0, 1), (100, 9.0, 5)],
)
def test_the_next_chunk_takes_the_target_and_grows_twofold_at_most(size, seconds, expected):
    assert next_size(size, seconds, target=0.5, growth=2) == expected

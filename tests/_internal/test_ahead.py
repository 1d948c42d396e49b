"""Things that are made some time before they are taken."""

import pytest

from lectopt._internal.ahead import ahead


@pytest.mark.parametrize(
    ("count", "order"),
    [(0, "0- 1- 2- 3-"), (1, "01 - 2- 3- -"), (2, "012 - 3- - -"), (9, "0123 - - - -")],
)
def test_so_many_are_made_before_one_is_taken(count, order):
    log = []
    made = (log.append(str(i)) or i for i in range(4))
    taken = [log.append("-") or item for item in ahead(made, count)]
    assert taken == [0, 1, 2, 3]
    assert "".join(log) == order.replace(" ", "")


def test_an_error_amid_them_comes_through():
    with pytest.raises(ZeroDivisionError):
        list(ahead((1 / i for i in (1, 0)), 1))

"""The largest program that fits into memory."""

from types import SimpleNamespace

import pytest

from lectopt.engine.memory import fitted


def halves(compiled):
    """Arguments of `fitted` for trainings of 100 bytes each, of which half as many are tried next."""

    def compile_(count):
        compiled.append(count)
        return SimpleNamespace(memory=100 * count)

    return {"compile_": compile_, "smaller": lambda count, _: count // 2 or None, "name": lambda count: f"{count} run"}


@pytest.mark.parametrize(("budget", "devices", "fits"), [(800, 1, 8), (799, 1, 4), (800, 2, 4), (99, 1, 0)])
def test_it_shrinks_until_it_fits(budget, devices, fits):
    compiled = []
    if not fits:
        with pytest.raises(ValueError, match="memory must be enough for 1 run, which take 100 bytes; got 99"):
            fitted(8, budget=budget, devices=devices, **halves(compiled))
    else:
        candidate, program = fitted(8, budget=budget, devices=devices, **halves(compiled))
        assert (candidate, program.memory) == (fits, 100 * fits)
    assert compiled == [count for count in (8, 4, 2, 1) if count >= fits]


def test_the_next_candidate_knows_what_the_last_one_took():
    seen = []

    def smaller(count, memory):
        seen.append((count, memory))
        return count - 1

    options = {"compile_": lambda count: SimpleNamespace(memory=10 * count), "name": str}
    assert fitted(4, smaller=smaller, budget=50, devices=2, **options)[0] == 2
    assert seen == [(4, 80), (3, 60)]

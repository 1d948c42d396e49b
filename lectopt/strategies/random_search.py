"""Random search over vectors of choices: what every cleverer method is to be compared with."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lectopt._internal import checks
from lectopt._internal.types import Array
from lectopt.strategies.choices import Decisions, Record, as_decisions
from lectopt.strategies.rounds import Asked, Score, alone


class RandomSearch(NamedTuple):
    """Every decision uniform, and independent of the others."""

    decisions: Decisions
    children: int

    def init(self, key: jax.Array) -> tuple[()]:
        """Nothing is remembered."""
        del key
        return ()

    def ask(self, state: tuple[()], key: jax.Array) -> Asked:
        """What to try next."""
        del state
        return Asked(draw(self.decisions, key, self.children), {})

    def tell(self, state: tuple[()], vectors: Array, scores: Array) -> tuple[()]:
        """Nothing is learned."""
        del vectors, scores
        return state


def draw(decisions: Decisions, key: jax.Array, count: int) -> Array:
    """int32[count, decisions]: vectors drawn uniformly."""
    options = jnp.array(decisions.options)
    return decisions.canonical(jax.random.randint(key, (count, len(decisions.options)), 0, options, jnp.int32))


def random_choices(
    choices: Any,
    score: Score,
    rounds: int,
    children: int,
    key: Any,
    *,
    host: bool = False,
    directory: str | Path | None = None,
    progress: bool = True,
) -> Record:
    """Tries vectors of choices at random, every decision uniform and independent.

    Args:
        choices: as for `reinforce`.
        score: as for `reinforce`.
        rounds: as for `reinforce`.
        children: as for `reinforce`.
        key: as for `reinforce`.
        host: as for `reinforce`.
        directory: as for `reinforce`.
        progress: as for `reinforce`.

    Returns:
        A Record.

    Raises:
        ValueError, TypeError: as `reinforce`.

    Example:
        >>> import lectopt as lo
        >>> record = lo.search.random_choices([3, 3], lambda vectors: -vectors.sum(axis=1), 2, 10, key=0)
        >>> record.scores.max()
        Array(0., dtype=float32)

    Source: the lecture, "Random Search"; Li and Talwalkar (2019), as a baseline of architecture search.
    """
    method = RandomSearch(as_decisions(choices), checks.check_count("children", children))
    return alone(method, score, rounds, key, host=host, directory=directory, progress=progress)

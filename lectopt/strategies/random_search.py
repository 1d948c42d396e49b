"""Random search over vectors of choices: what every cleverer method is to be compared with."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lectopt._internal import checks
from lectopt._internal.types import Array
from lectopt.strategies.choices import Decisions, Record, as_decisions
from lectopt.strategies.rounds import Proposal, Score
from lectopt.strategies.running import run_method


class RandomSearch(NamedTuple):
    """Every decision uniform, and independent of the others."""

    decisions: Decisions
    children: int

    def init(self, key: jax.Array) -> tuple[()]:
        """Returns an empty state."""
        del key
        return ()

    def ask(self, state: tuple[()], key: jax.Array) -> Proposal:
        """Returns what to try next."""
        del state
        return Proposal(draw(self.decisions, key, self.children), {})

    def tell(self, state: tuple[()], vectors: Array, scores: Array) -> tuple[()]:
        """Returns the state unchanged."""
        del vectors, scores
        return state


def draw(decisions: Decisions, key: jax.Array, count: int) -> Array:
    """Draws int32[count, decisions] uniformly."""
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
    """Tries vectors of choices at random, each decision uniformly and independently of the others.

    It is the baseline that any other search has to beat.

    Args:
        choices: what there is to decide: a sequence of ints, the number of options of each decision, at least 1; or a
            `lo.ArchitectureSpace`. A vector of choices holds one option, from 0, for each decision.
        score: a JAX function from int32[children, decisions] to float[children], such as a table or a simulator; higher
            is better, and all scores must be finite. With `host=True`, any Python function of a NumPy array.
        rounds: number of rounds, at least 1.
        children: number of vectors, called children, that are tried in each round, at least 1.
        key: an int or a `jax.random.key`.
        host: whether `score` is called from Python, outside any compiled program; False, the default, compiles all
            rounds into one program.
        directory: folder that keeps the state between rounds; it is created if necessary. A search that was interrupted
            in any way continues from there when it is called again with the same arguments, and ends as an
            uninterrupted one would. None keeps nothing on disk.
        progress: whether to show a progress bar on standard error; True by default.

    Returns:
        A `Record` with the fields `choices`, int32[rounds, children, decisions], and `scores`, float32[rounds,
        children]. Without `host` and `directory` this is a pure function, which can be jitted, and vmapped over keys.
        In an interactive session (a notebook, IPython or the Python prompt), Ctrl-C returns the rounds so far, with a
        warning.

    Raises:
        ValueError: if an argument is out of range, `score` returns values of the wrong shape or not finite, or
            `directory` holds another search (which is not detected if only a `score` on the host differs).
        TypeError: if an argument or a score has the wrong type.
        KeyboardInterrupt: on Ctrl-C outside interactive sessions. What is in `directory` is kept.

    Example:
        >>> import lectopt as lo
        >>> record = lo.search.random_choices([3, 3], lambda vectors: -vectors.sum(axis=1), 2, 10, key=0)
        >>> record.scores.max()
        Array(0., dtype=float32)

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Grid-Search & Random Search"; Li and
    Talwalkar (2019), "Random search and reproducibility for neural architecture search", UAI.
    """
    method = RandomSearch(as_decisions(choices), checks.check_count("children", children))
    return run_method(method, score, rounds, key, host=host, directory=directory, progress=progress)

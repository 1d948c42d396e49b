"""Regularized evolution of vectors of choices."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lectopt._internal import checks
from lectopt._internal.types import Array
from lectopt.strategies.choices import Decisions, Record, as_decisions
from lectopt.strategies.random_search import draw
from lectopt.strategies.rounds import Proposal, Score
from lectopt.strategies.running import run_method


class Population(NamedTuple):
    """The living, in a ring: the next one to be born takes the place of the oldest."""

    vectors: Array  # int32[population, decisions]
    scores: Array  # float32[population]
    born: Array  # int32[], how many ever were


class Evolution(NamedTuple):
    """Each child is the best of a few of the living with one decision changed; the oldest die."""

    decisions: Decisions
    children: int
    population: int = 20
    tournament: int = 10

    def init(self, key: jax.Array) -> Population:
        """Returns a population into which nothing has been born."""
        del key
        shape = self.population, len(self.decisions.options)
        return Population(jnp.zeros(shape, jnp.int32), jnp.full(shape[0], -jnp.inf), jnp.int32(0))

    def ask(self, state: Population, key: jax.Array) -> Proposal:
        """Returns what to try next: whole rounds at random until the population is complete."""
        key_random, key_parent, key_child = jax.random.split(key, 3)
        drawn = draw(self.decisions, key_random, self.children)
        # Contestants are different ones.
        places = jax.vmap(lambda k: jax.random.choice(k, self.population, (self.tournament,), replace=False))(
            jax.random.split(key_parent, self.children)
        )
        parents = state.vectors[jnp.take_along_axis(places, jnp.argmax(state.scores[places], axis=1)[:, None], 1)[:, 0]]
        bred = self.decisions.canonical(jax.vmap(self._mutated)(jax.random.split(key_child, self.children), parents))
        return Proposal(jnp.where(state.born < self.population, drawn, bred), {})

    def tell(self, state: Population, vectors: Array, scores: Array) -> Population:
        """Replaces the oldest by the children."""
        # Of more children than places, the last ones stay.
        kept = min(self.children, self.population)
        places = (state.born + jnp.arange(self.children)[-kept:]) % self.population
        return Population(
            state.vectors.at[places].set(vectors[-kept:]),
            state.scores.at[places].set(scores[-kept:]),
            state.born + self.children,
        )

    def _mutated(self, key: jax.Array, vector: Array) -> Array:
        """Returns the vector with one decision that applies changed to another option."""
        key_place, key_option, key_new = jax.random.split(key, 3)
        options = jnp.array(self.decisions.options)
        can = self.decisions.matter(vector[None])[0] & (options > 1)
        place = jax.random.categorical(key_place, jnp.where(can, 0.0, -jnp.inf))
        step = jax.random.randint(key_option, (), 1, jnp.maximum(options[place], 2))
        child = jnp.where(can.any(), vector.at[place].set((vector[place] + step) % options[place]), vector)
        # What means something only now, as the layers of a deeper network, is drawn.
        new = self.decisions.matter(child[None])[0] & ~self.decisions.matter(vector[None])[0]
        return jnp.where(new, draw(self.decisions._replace(active=None), key_new, 1)[0], child)


def evolve(
    choices: Any,
    score: Score,
    rounds: int,
    children: int,
    key: Any,
    *,
    population: int = 20,
    tournament: int = 10,
    host: bool = False,
    directory: str | Path | None = None,
    progress: bool = True,
) -> Record:
    """Searches vectors of choices by regularized evolution.

    Rounds are random until the population is complete. From then on each child is a copy, with one decision changed, of
    the best of `tournament` vectors drawn from the population without replacement, and replaces the oldest vector
    there. Decisions that begin to apply through the change, such as those about the layers of a deeper network, are
    drawn at random. All children of a round descend from the population at its beginning.

    Args:
        choices: what there is to decide: a sequence of ints, the number of options of each decision, at least 1; or a
            `lo.ArchitectureSpace`. A vector of choices holds one option, from 0, for each decision.
        score: a JAX function from int32[children, decisions] to float[children], such as a table or a simulator; higher
            is better, and all scores must be finite. With `host=True`, any Python function of a NumPy array.
        rounds: number of rounds, at least 1.
        children: number of vectors, called children, that are tried in each round, at least 1.
        key: an int or a `jax.random.key`.
        population: number of vectors in the population, at least 1; 20 by default.
        tournament: number of vectors that compete to be a parent, at least 1 and at most `population`; 10 by default.
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
        ValueError: if an argument is out of range (a tournament larger than the population, for instance), `score`
            returns values of the wrong shape or not finite, or `directory` holds another search (which is not detected
            if only a `score` on the host differs).
        TypeError: if an argument or a score has the wrong type.
        KeyboardInterrupt: on Ctrl-C outside interactive sessions. What is in `directory` is kept.

    Example:
        >>> import lectopt as lo
        >>> record = lo.search.evolve([8] * 6, lambda vectors: vectors.sum(axis=1), 40, 10, key=0)
        >>> float(record.scores[-1].mean()) > float(record.scores[0].mean()) + 10
        True

    Source: Real, Aggarwal, Huang and Le (2019), "Regularized evolution for image classifier architecture search", AAAI,
    algorithm 1.
    """
    population = checks.check_count("population", population)
    if checks.check_count("tournament", tournament) > population:
        raise ValueError(f"tournament must be at most the population, {population}; got {tournament}")
    method = Evolution(as_decisions(choices), checks.check_count("children", children), population, tournament)
    return run_method(method, score, rounds, key, host=host, directory=directory, progress=progress)

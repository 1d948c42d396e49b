"""Vectors of choices: what there is to decide, and the record of what was tried."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lectopt._internal import checks
from lectopt._internal.types import Array


class Decisions(NamedTuple):
    """What there is to decide, in order."""

    options: tuple[int, ...]
    """How many there are to choose from."""
    active: Callable[[Array], Array] | None = None
    """int32[decisions] -> bool[decisions], in JAX: which entries of a vector mean something; None is all."""
    anchors: tuple[int, ...] | None = None
    """For each decision -1, or the earlier decision whose hidden state says whether to connect to it."""

    @property
    def most(self) -> int:
        """The largest number of options."""
        return max(self.options)

    @property
    def possible(self) -> Array:
        """bool[decisions, most]: which options each decision has."""
        return jnp.arange(self.most) < jnp.array(self.options)[:, None]

    def matter(self, vectors: Array) -> Array:
        """bool[n, decisions]: which entries of these vectors mean something."""
        return jnp.ones(vectors.shape, bool) if self.active is None else jax.vmap(self.active)(vectors)

    def canonical(self, vectors: Array) -> Array:
        """The vectors with 0 for all that means nothing, so that what is equal has one vector."""
        return jnp.where(self.matter(vectors), vectors, 0)


def as_decisions(choices: Any) -> Decisions:
    """Decisions from numbers of options, or from what has them, such as an ArchitectureSpace.

    Raises:
        ValueError: if there are none, or one has no option.
        TypeError: if they are not whole numbers.
    """
    found = getattr(choices, "decisions", choices)
    if isinstance(found, Decisions):
        return found
    if not isinstance(found, (Sequence, np.ndarray, jax.Array)) or isinstance(found, str):
        raise TypeError(f"choices must be the numbers of options, or an ArchitectureSpace; got {choices!r}")
    if not len(found):
        raise ValueError("choices must be the numbers of options of at least one decision; got none")
    several = found if isinstance(found, Sequence) else np.asarray(found).tolist()
    return Decisions(tuple(checks.check_count(f"choices[{i}]", count) for i, count in enumerate(several)))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Record:
    """What was tried, round by round."""

    choices: Array
    """int32[rounds, children, decisions]; entries that mean nothing are 0."""
    scores: Array
    """float32[rounds, children]: higher is better."""
    entropy: Array | None = None
    """float32[rounds], of a controller: the entropy of its choices in nats, as met by its children."""
    probabilities: Array | None = None
    """float32[rounds, decisions, most options], of a controller: with what probability it took each option, the mean
    over its children."""

    def best(self, n: int = 1) -> list[tuple[np.ndarray, float]]:
        """The n best different vectors with their scores, the means where they were tried several times.

        One that once had no score has none.
        """
        return best_of([self], checks.check_count("n", n))

    def best_so_far(self) -> Array:
        """float32[rounds * children]: the highest score up to each evaluation."""
        scores = jnp.where(jnp.isnan(self.scores), -jnp.inf, self.scores).reshape(-1)
        return jax.lax.cummax(scores)

    def __repr__(self) -> str:
        return f"Record(choices=int32{list(jnp.shape(self.choices))}, scores=float32{list(jnp.shape(self.scores))})"


def best_of(records: Sequence[Record], count: int) -> list[tuple[np.ndarray, float]]:
    """The best different vectors of several records, from best to worst, with their mean scores."""
    vectors = np.concatenate([np.asarray(r.choices).reshape(-1, np.shape(r.choices)[-1]) for r in records])
    scores = np.concatenate([np.asarray(r.scores, np.float64).ravel() for r in records])
    different, which = np.unique(vectors, axis=0, return_inverse=True)
    means = np.bincount(which.ravel(), scores) / np.bincount(which.ravel())
    order = [i for i in np.argsort(-means, kind="stable") if not np.isnan(means[i])]
    return [(different[i], float(means[i])) for i in order[:count]]

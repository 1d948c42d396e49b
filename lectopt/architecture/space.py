"""Which architectures there are, and each one as a vector of choices."""

import itertools
import math
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from lectopt._internal import checks
from lectopt._internal.types import Array
from lectopt.architecture.design import ACTIVATIONS, NORMS, Architecture, Layer
from lectopt.strategies.choices import Decisions


class Decision(NamedTuple):
    """One of the choices that make an architecture."""

    name: str
    """ "depth", "width", "kernel_size", "activation", "norm" or "skip"."""
    layer: int
    """The layer it is about, from 1; 0 for the depth."""
    source: int
    """Of a skip, the layer it comes from, 0 being the input; otherwise -1."""
    options: tuple[Any, ...]

    def __str__(self) -> str:
        if self.name == "skip":
            return f"layer {self.layer} reads {f'layer {self.source}' if self.source else 'the input'}"
        return f"layer {self.layer}: {self.name}" if self.layer else self.name


class ArchitectureSpace:
    r"""The architectures that a search chooses from: dense networks, or convolutional ones in one or two dimensions.

    The depth d is chosen first; then, for each layer, its width, kernel size, activation and normalization; and for
    each layer but the previous one (0 being the input), whether its output is concatenated to what the layer reads:

    .. math::
        \begin{aligned}
            h_l &= \phi_l\left(\operatorname{norm}_l\left(W_l * [h_j : s_{lj} = 1;\ h_{l-1}] + b_l\right)\right), \cr
            l &= 1, \dots, d, \qquad s_{lj} \in \lbrace 0, 1 \rbrace \text{ for } j < l - 1
        \end{aligned}

    The outputs are linear in :math:`h_d`; for convolutions, in its mean over all positions. Before batch normalization
    there is no bias :math:`b_l`. Decisions about layers beyond d do not apply; architectures that differ only in those
    count as one.

    A *vector of choices* holds one option, from 0, for each decision that has several options.

    Args:
        depth: number of hidden layers, at least 1: an int, or a sequence of ints to choose from.
        width: units or filters of a layer, at least 1: an int, or a sequence of ints for each layer to choose from.
        kernel_size: taps of the filters along each spatial axis, odd: an int, or a sequence of ints for each layer to
            choose from; None, the default, for dense layers.
        activation: "relu", "tanh", "sigmoid", "elu", "gelu" or "silu", or a sequence of them for each layer to choose
            from; "relu" by default.
        norm: "none", "batch" or "layer", or a sequence of them for each layer to choose from; "none" by default.
        skip: whether layers may also read layers before the previous one; False by default.
        strides: strides of the convolutions: an int, by default 1, or a sequence of one for each layer of the deepest
            network; not searched.

    Raises:
        ValueError: if there is only one architecture, or a number, name or combination is not allowed.
        TypeError: if a number is not whole, or `skip` is not a bool.

    Example:
        >>> import lectopt as lo
        >>> space = lo.ArchitectureSpace(depth=[1, 2], width=[16, 32, 64], activation=["relu", "tanh"])
        >>> space.count
        42
        >>> print(space.decode([1, 0, 1, 2, 0]))
        1: 16 units, tanh
        2: 64 units, relu

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Neural Architecture Search (NAS)"; Zoph and
    Le (2016), "Neural architecture search with reinforcement learning", arXiv:1611.01578, sections 3.1 and 3.3.
    """

    def __init__(
        self,
        *,
        depth: int | Sequence[int],
        width: int | Sequence[int],
        kernel_size: int | Sequence[int] | None = None,
        activation: str | Sequence[str] = "relu",
        norm: str | Sequence[str] = "none",
        skip: bool = False,
        strides: int | Sequence[int] = 1,
    ):
        self.depth = _counts("depth", depth)
        self.width = _counts("width", width)
        self.kernel_size = None if kernel_size is None else _odd(_counts("kernel_size", kernel_size))
        self.activation = _names("activation", activation, tuple(ACTIVATIONS))
        self.norm = _names("norm", norm, tuple(NORMS))
        self.skip = checks.check_flag("skip", skip)
        self.strides = self._strides(strides)
        every = list(self._decisions())
        self.fixed = {(d.name, d.layer, d.source): d.options[0] for d in every if len(d.options) == 1}
        self.questions = tuple(d for d in every if len(d.options) > 1)
        """The decisions that there are, one for each entry of a vector; those with one option are not among them."""
        if not self.questions:
            raise ValueError("an ArchitectureSpace must have at least 2 architectures to choose from; got 1")

    @property
    def deepest(self) -> int:
        """The largest number of hidden layers."""
        return max(self.depth)

    @property
    def largest(self) -> Architecture:
        """The deepest and widest architecture: with the largest kernels, the first activation and norm, no skips."""
        kernel_size = None if self.kernel_size is None else max(self.kernel_size)
        layer = Layer(max(self.width), kernel_size, self.activation[0], self.norm[0])
        return Architecture((layer,) * self.deepest, self.strides)

    @property
    def choices(self) -> tuple[int, ...]:
        """The number of options of each entry of a vector of choices, a tuple of ints."""
        return tuple(len(decision.options) for decision in self.questions)

    @property
    def decisions(self) -> Decisions:
        """The decisions in the form that `lo.search.reinforce`, `evolve` and `random_choices` take."""
        last = {decision.layer: place for place, decision in enumerate(self.questions)}
        anchors = tuple(last.get(d.source, -1) if d.name == "skip" else -1 for d in self.questions)
        return Decisions(self.choices, self.active, anchors if self.skip else None)

    @property
    def count(self) -> int:
        """The number of different architectures."""
        return sum(math.prod(len(d.options) for d in self.questions if 0 < d.layer <= depth) for depth in self.depth)

    def active(self, vector: Array) -> Array:
        """Returns which entries of a vector of choices apply: not those about layers beyond its depth.

        Args:
            vector: int[decisions], a vector of choices; it may be traced.

        Returns:
            bool[decisions], as a JAX array.
        """
        layers = jnp.array([decision.layer for decision in self.questions])
        return layers <= self.values("depth", 0, vector)

    def values(self, name: str, layer: int, vector: Array, source: int = -1) -> Any:
        """Returns what a vector of choices says about one decision.

        Args:
            name: the decision: "depth", "width", "kernel_size", "activation", "norm" or "skip".
            layer: the layer that it is about, from 1; 0 for the depth.
            vector: int[decisions], a vector of choices; it may be traced.
            source: for a skip, the layer that is read, 0 for the input; otherwise -1.

        Returns:
            int32[] (for a skip bool[]) as a JAX array, or a Python value if there is only one option; for an activation
            or norm, its position among those of this space.

        Raises:
            KeyError: if there is no such decision.
        """
        if (name, layer, source) in self.fixed:
            value = self.fixed[name, layer, source]
            return self._place(name, value)
        for place, decision in enumerate(self.questions):
            if (decision.name, decision.layer, decision.source) == (name, layer, source):
                return jnp.array([self._place(name, option) for option in decision.options])[vector[place]]
        raise KeyError((name, layer, source))

    def decode(self, vector: Any) -> Architecture:
        """Returns the architecture of a vector of choices.

        Args:
            vector: int[decisions], each entry at least 0 and below its number of options.

        Returns:
            A `lo.search.Architecture`.

        Raises:
            ValueError: if `vector` is not as described.
        """
        try:
            row = np.asarray(vector)
        except (TypeError, ValueError):  # ragged, say, or traced
            row = np.zeros(())
        if row.shape != (len(self.choices),) or not np.issubdtype(row.dtype, np.integer):
            raise ValueError(f"vector must be {len(self.choices)} whole numbers; got {vector!r}")
        if not ((row >= 0) & (row < self.choices)).all():
            raise ValueError(f"vector must be below {self.choices}, entry by entry; got {row.tolist()}")
        told = {
            (d.name, d.layer, d.source): d.options[i] for d, i in zip(self.questions, row, strict=True)
        } | self.fixed
        depth = told["depth", 0, -1]
        layers = tuple(
            Layer(
                **{name: told[name, number, -1] for name in ("width", "kernel_size", "activation", "norm")},
                skips=tuple(j for j in range(number - 1) if told["skip", number, j]),
            )
            for number in range(1, depth + 1)
        )
        return Architecture(layers, self.strides[:depth])

    def encode(self, architecture: Architecture) -> np.ndarray:
        """Returns the vector of choices of an architecture.

        Args:
            architecture: a `lo.search.Architecture` of this space.

        Returns:
            int32[decisions], 0 for decisions that do not apply.

        Raises:
            ValueError: if the architecture is not in this space.
            TypeError: if it is not a `lo.search.Architecture`.
        """
        if not isinstance(architecture, Architecture):
            raise TypeError(f"architecture must be an Architecture; got {type(architecture).__name__}")
        told: dict[Hashable, Any] = {("depth", 0, -1): len(architecture.layers)}
        for number, layer in enumerate(architecture.layers, 1):
            told |= {
                (name, number, -1): getattr(layer, name) for name in ("width", "kernel_size", "activation", "norm")
            }
            told |= {("skip", number, j): j in layer.skips for j in range(number - 1)}
        row = []
        for decision in self.questions:
            value = told.get(decision[:3])
            row.append(decision.options.index(value) if value in decision.options else 0)
        if self.decode(row) != architecture:
            raise ValueError(f"architecture must be in the space {self!r}; got\n{architecture}")
        return np.array(row, np.int32)

    def members(self) -> np.ndarray:
        """Returns the vectors of choices of all architectures, depth by depth.

        Returns:
            int32[count, decisions].
        """
        found = []
        for depth in self.depth:
            ranges = [
                [self.depth.index(depth)] if not d.layer else range(len(d.options) if d.layer <= depth else 1)
                for d in self.questions
            ]
            found.append(np.array(list(itertools.product(*ranges)), np.int32))
        return np.concatenate(found)

    def multiplications(self, inputs: Sequence[int], outputs: int) -> int:
        """Returns the number of multiplications that the masked network takes for one example.

        The masked network is the largest architecture with all possible skips; a search trains every architecture in
        its shapes.

        Args:
            inputs: the shape of one example: (features,) for dense layers, (length, channels) or (height, width,
                channels) for convolutions.
            outputs: number of outputs.

        Returns:
            An int, the output layer included.
        """
        return self.masked(self.deepest, max(self.width)).multiplications(inputs, outputs)

    def masked(self, depth: int, width: int) -> Architecture:
        """Returns the architecture whose linear maps the masked network takes when cut to a size.

        Args:
            depth: number of hidden layers.
            width: number of units, or of filters, of each of them.

        Returns:
            A `lo.search.Architecture` with the largest kernels and all possible skips.

        Raises:
            ValueError: if `depth` or `width` is below 1.
            TypeError: if one of them is not a whole number.
        """
        depth, width = checks.check_count("depth", depth), checks.check_count("width", width)
        largest = self.largest.layers[0]._replace(width=width)
        layers = [largest._replace(skips=tuple(range(i)) if self.skip else ()) for i in range(depth)]
        return Architecture(tuple(layers), self.strides[:depth])

    def __repr__(self) -> str:
        shown = {
            "depth": self.depth,
            "width": self.width,
            "kernel_size": self.kernel_size,
            "activation": self.activation,
            "norm": self.norm,
        }
        parts = [
            f"{name}={options[0] if len(options) == 1 else list(options)!r}"
            for name, options in shown.items()
            if options
        ]
        strides = [f"strides={list(self.strides)}"] if set(self.strides) - {1} else []
        skip = ["skip=True"] if self.skip else []
        return f"ArchitectureSpace({', '.join(parts + skip + strides)}): {_many(self.count)} architectures"

    def _decisions(self) -> Iterator[Decision]:
        yield Decision("depth", 0, -1, self.depth)
        for layer in range(1, self.deepest + 1):
            yield Decision("width", layer, -1, self.width)
            yield Decision("kernel_size", layer, -1, self.kernel_size or (None,))
            yield Decision("activation", layer, -1, self.activation)
            yield Decision("norm", layer, -1, self.norm)
            for source in range(layer - 1):
                yield Decision("skip", layer, source, (False, True) if self.skip else (False,))

    def _place(self, name: str, option: Any) -> int:
        """Returns an option as a number: itself, or the position of a name."""
        return (
            {"activation": self.activation, "norm": self.norm}[name].index(option)
            if isinstance(option, str)
            else option
        )

    def _strides(self, strides: Any) -> tuple[int, ...]:
        several = strides if isinstance(strides, Sequence) else [strides] * self.deepest
        found = tuple(checks.check_count("strides", stride) for stride in several)
        if len(found) != self.deepest:
            raise ValueError(f"strides must be one number, or {self.deepest}, one for each layer; got {strides!r}")
        if self.kernel_size is None and set(found) != {1}:
            raise ValueError(f"strides must be 1 for dense layers, which have no kernel_size; got {strides!r}")
        return found


def _several(name: str, values: Any) -> tuple[Any, ...]:
    if isinstance(values, np.ndarray):
        values = values.tolist()
    several = tuple(values) if isinstance(values, Sequence) and not isinstance(values, str) else (values,)
    if not several:
        raise ValueError(f"{name} must have at least one option; got none")
    return several


def _different(name: str, several: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(several)) < len(several):
        raise ValueError(f"{name} must have different options; got {list(several)}")
    return several


def _counts(name: str, values: Any) -> tuple[int, ...]:
    return _different(name, tuple(checks.check_count(name, value) for value in _several(name, values)))


def _odd(sizes: tuple[int, ...]) -> tuple[int, ...]:
    if even := [size for size in sizes if size % 2 == 0]:
        raise ValueError(f"kernel_size must be odd, to have a middle; got {even[0]}")
    return sizes


def _names(name: str, values: Any, allowed: tuple[str, ...]) -> tuple[str, ...]:
    several = _several(name, values)
    for value in several:
        checks.check_choice(name, value, allowed)
    return _different(name, several)


def _many(count: int) -> str:
    return f"{count:,}" if count < 10**12 else f"about 10^{math.floor(math.log10(count))}"

"""`pretrain_layers`: one layer after the other, each as a denoising autoencoder of what the layers below put out."""

import functools
from collections import OrderedDict
from collections.abc import Sequence, Set
from typing import Any

import jax
import optax

from lectopt._internal.types import ArrayTree
from lectopt.pretraining.decoders import Decoder
from lectopt.pretraining.model_arrays import model_paths
from lectopt.pretraining.network_layers import NetworkLayers
from lectopt.pretraining.reconstruction_tasks import layer_reconstruction
from lectopt.pretraining.renaming_rules import ModelPath
from lectopt.pretraining.results import Pretrained
from lectopt.pretraining.stage_training import Recipe
from lectopt.training.history import History


def pretrain_layers(
    task: Any,
    inputs: Any,
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int,
    epochs: int | None = None,
    steps: int | None = None,
    corruption: Any = 0.3,
    layers: Sequence[str] | None = None,
    valid: Any = None,
    key: Any,
    progress: bool = True,
) -> Pretrained:
    r"""Trains the layers of a network one after the other without labels, each as a denoising autoencoder.

    With :math:`h_0` the inputs, layer l = 1, 2, ... minimizes, while the layers below it are fixed,

    .. math:: \min \frac{1}{N} \sum_{n=1}^N \frac{1}{d} \| g_l(f_l(\tilde h_{l-1}^{(n)})) - h_{l-1}^{(n)} \|^2, \qquad
        h_l = f_l(h_{l-1})

    where d is the size of :math:`h_{l-1}`, the tilde denotes a corruption, :math:`f_l` is the layer with everything
    between it and the next layer with weights (activation, normalization, pooling), and :math:`g_l` is a linear decoder
    that is discarded afterwards. For a convolution, :math:`g_l` enlarges the code to the size of the layer's input and
    convolves it. Fine-tune the whole network with labels by `lo.fit(task, ..., start=pretrained.start)`.

    Inside `jit` this is a pure function, which can also be vmapped there; it then trains with `lo.train`, and otherwise
    with `lo.fit`.

    Args:
        task: the `Task` to be learned later, whose network and `standardize` are used (`output_bias` is not, as it
            needs labels); or a network in any form that `lo.Task` takes. It is an NNX or Linen module whose dense
            layers and convolutions are called one after the other.
        inputs: the inputs, an array [n, ...] of real numbers, or a `Subset` of inputs alone; `subset.unlabelled()`
            drops the labels of another one.
        optimizer: an Optax optimizer; each stage starts with a new state.
        batch_size: number of examples in a minibatch, at least 1.
        epochs: number of passes through the inputs for each layer, at least 1. Exactly one of `epochs` and `steps` must
            be given.
        steps: number of steps, that is, parameter updates, for each layer, at least 1; None if `epochs` is given.
        corruption: the share of numbers that are set to 0 at random, in [0, 1), by default 0.3; or a function
            `corruption(key, h)` that returns an array of the shape and dtype of h, [batch, ...].
        layers: paths of the layers to train, such as ["layers/0"]; None takes all layers with weights but the last.
        valid: inputs to validate on after each epoch, an array [n, ...] or a `Subset` of inputs alone; their losses are
            added to the history. None skips this.
        key: an int or a `jax.random.key`. The network starts from the weights that `lo.train` draws with the same key.
        progress: whether to show a progress bar on standard error for each layer that takes more than a second; True by
            default.

    Returns:
        A `Pretrained` with `start`, `model`, and `histories` by layer.

    Raises:
        ValueError: before anything is compiled, if there are labels, the network does not fit the inputs, or an
            argument is not as described above, no layer can be trained, or one of `layers` is not among them.
        TypeError: if the model is a pair of functions, which has no layers, `optimizer` is not an Optax optimizer, or
            another argument has the wrong type.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> def net(rngs):
        ...     return nnx.Sequential(nnx.Linear(64, 32, rngs=rngs), nnx.relu, nnx.Linear(32, 10, rngs=rngs))
        >>> task = lo.classification(net, standardize=True)
        >>> x, y = lo.datasets.digits()
        >>> pretrained = lo.pretrain_layers(task, x, lo.adam(1e-3), batch_size=32, epochs=1, key=0)
        >>> pretrained
        Pretrained(layers/0)
        >>> few = lo.few_labels((x, y), 10, key=0)
        >>> run = lo.fit(
        ...     task, lo.adam(1e-3), few, batch_size=32, epochs=20, key=0, start=pretrained.start
        ... )  # doctest: +SKIP

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Parameter Initialization" (further
    techniques); Vincent, Larochelle, Lajoie, Bengio and Manzagol (2010), "Stacked denoising autoencoders: learning
    useful representations in a deep network with a local denoising criterion", Journal of Machine Learning Research 11;
    Goodfellow, Bengio and Courville (2016), "Deep Learning", section 15.1.
    """
    recipe = Recipe.of(
        task,
        inputs,
        optimizer,
        valid=valid,
        corruption=corruption,
        key=key,
        progress=progress,
        batch_size=batch_size,
        epochs=epochs,
        steps=steps,
    )
    network = NetworkLayers(recipe.task, recipe.shapes)
    params, state = recipe.init()
    histories: OrderedDict[str, History] = OrderedDict()
    for number, name in enumerate(_layers_to_train(layers, network)):
        decoder = functools.partial(Decoder, network.shapes[name])
        stage = layer_reconstruction(recipe.task, network, name, decoder, recipe.corrupt)
        trained = network.block(name)
        layer_optimizer = optax.partition(
            {True: optimizer, False: optax.set_to_zero()}, functools.partial(_is_trained, trained)
        )
        run = recipe.run(stage, layer_optimizer, params, state, number)
        params = run.params["network"]
        state = run.model_state._replace(
            variables=_updated(
                state.variables, run.model_state.variables["network"], trained | network.before_first_weighted()
            )
        )
        histories[name] = run.history
    return Pretrained(params, state, histories, recipe.task)


def _layers_to_train(layers: Sequence[str] | None, network: NetworkLayers) -> list[str]:
    """Returns the names of the layers to train, in the order in which they are called."""
    trainable = list(network.shapes)
    if not trainable:
        raise ValueError("task must have a network with a dense layer or a convolution; it calls none")
    if layers is None:
        if len(trainable) < 2:
            raise ValueError(
                f"task must have a network with a dense layer or convolution below its last one; it has {trainable}. "
                "Name the layers to train with layers=, or give an encoder to pretrain_encoder"
            )
        return trainable[:-1]
    named = isinstance(layers, (Sequence, Set)) and not isinstance(layers, str)
    if not named or not layers or not all(isinstance(name, str) and name in trainable for name in layers):
        raise ValueError(f"layers must be a list of some of {', '.join(trainable)}; got {layers!r}")
    return [name for name in trainable if name in layers]


def _is_trained(trained: set[ModelPath], params: ArrayTree) -> ArrayTree:
    """Returns whether each parameter is trained: those of the decoder and of these layers."""
    leaves = [path[:1] == ("decoder",) or _within(path[1:], trained) for path in model_paths(params)]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


def _updated(before: ArrayTree, after: ArrayTree, trained: set[ModelPath]) -> ArrayTree:
    """Statistics as they were, but for these layers: those above saw only what was corrupted."""
    leaves, treedef = jax.tree.flatten(before)
    news = jax.tree.leaves(after)
    chosen = [
        new if _within(path, trained) else old for path, old, new in zip(model_paths(before), leaves, news, strict=True)
    ]
    return jax.tree.unflatten(treedef, chosen)


def _within(path: ModelPath, layers: set[ModelPath]) -> bool:
    return any(path[: len(layer)] == layer for layer in layers)

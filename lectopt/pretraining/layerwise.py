"""`pretrain_layers`: one layer after the other, each as a denoising autoencoder of what the layers below put out."""

import functools
from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Any

import jax
import optax

from lectopt._internal.types import ArrayTree
from lectopt.pretraining.decoders import Decoder
from lectopt.pretraining.model_arrays import model_paths
from lectopt.pretraining.network_layers import NetworkLayers
from lectopt.pretraining.reconstruction_tasks import layer_stage
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

    With h_0 the inputs, layer l = 1, 2, ... learns, and the layers below stand still, by

    .. math:: \min \frac{1}{N} \sum_n \frac{1}{d} \| g_l(f_l(\tilde h_{l-1}^{(n)})) - h_{l-1}^{(n)} \|^2, \qquad
        h_l = f_l(h_{l-1})

    f_l is the layer with all that stands between it and the next one with weights (activation, norm, pooling), the
    tilde a corruption, and g_l a linear decoder that is dropped afterwards. For convolutions g_l enlarges the code to
    the size of what the layer took in and convolves it. Then the whole network is fine-tuned with labels:
    `lo.fit(task, ..., start=pretrained.start)`.

    Pure within `jit`, and `vmap` in it, where it trains with `train`; otherwise with `fit`, with its progress.

    Args:
        task: the task to be learned later, whose network and `standardize` are used (not `output_bias`, which needs
            labels); or a network, as `Task` takes it. NNX or Linen modules, of dense layers and convolutions that are
            called one after the other.
        inputs: an array [n, ...], or a Subset, without labels. `subset.unlabelled()` drops them.
        optimizer: an Optax optimizer; each stage begins with a new state.
        batch_size: examples in a minibatch.
        epochs: passes through the inputs for each layer; give this or steps.
        steps: updates for each layer; give this or epochs.
        corruption: the share of numbers that are set to 0, in [0, 1), or a function (key, h [batch, ...]) -> h.
        layers: the paths of the layers to train, such as "layers/0"; by default all with weights but the last.
        valid: inputs to validate on after each epoch, for the history.
        key: an int or a `jax.random.key`. The network starts from the weights that `train` draws with the same key.
        progress: show a bar on standard error for each layer that takes more than a second.

    Returns:
        A Pretrained: `.start`, `.model`, and `.histories` by layer.

    Raises:
        ValueError: if there are labels, no layer can be trained or one that is named is not among them, or an argument
            is not as described above; before anything compiles.
        TypeError: if the model is a pair of functions, which has no layers, or optimizer is none.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> def net(rngs):
        ...     return nnx.Sequential(nnx.Linear(64, 32, rngs=rngs), nnx.relu, nnx.Linear(32, 10, rngs=rngs))
        >>> task = lo.classification(net, standardize=True)
        >>> x, y = lo.datasets.digits()
        >>> pretrained = lo.pretrain_layers(task, x, lo.adam(1e-3), batch_size=32, epochs=2, key=0)
        >>> pretrained
        Pretrained(layers/0)
        >>> few = lo.few_labels((x, y), 10, key=0)
        >>> run = lo.fit(task, lo.adam(1e-3), few, batch_size=32, epochs=20, key=0, start=pretrained.start)

    Source: the lecture, "Further techniques"; Vincent et al. (2010), "Stacked denoising autoencoders".
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
    there = NetworkLayers(recipe.task, recipe.shapes)
    params, state = recipe.begin()
    histories: OrderedDict[str, History] = OrderedDict()
    for number, name in enumerate(_chosen(layers, there)):
        decoder = functools.partial(Decoder, there.passages[name])
        stage = layer_stage(recipe.task, there, name, decoder, recipe.corrupt)
        learning = there.block(name)
        alone = optax.partition({True: optimizer, False: optax.set_to_zero()}, functools.partial(_learns, learning))
        run = recipe.run(stage, alone, params, state, number)
        params = run.params["network"]
        state = run.model_state._replace(
            variables=_updated(state.variables, run.model_state.variables["network"], learning | there.before())
        )
        histories[name] = run.history
    return Pretrained(params, state, histories, recipe.task)


def _chosen(layers: Sequence[str] | None, there: NetworkLayers) -> list[str]:
    """The names of the layers to train, in the order in which they are called."""
    known = list(there.passages)
    if not known:
        raise ValueError("task must have a network with a dense layer or a convolution; none was seen in a call of it")
    if layers is None:
        if len(known) < 2:
            raise ValueError(
                f"task must have a network with a dense layer or convolution below its last one; it has {known}. Name "
                "the layers to train with layers=, or give an encoder to pretrain_encoder"
            )
        return known[:-1]
    named = isinstance(layers, Collection) and not isinstance(layers, str)
    if not named or not layers or not all(name in known for name in layers):
        raise ValueError(f"layers must be a list of some of {', '.join(known)}; got {layers!r}")
    return [name for name in known if name in layers]


def _learns(learning: set[ModelPath], params: ArrayTree) -> ArrayTree:
    """Whether each parameter learns: those of the decoder and of these layers."""
    leaves = [path[:1] == ("decoder",) or _within(path[1:], learning) for path in model_paths(params)]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


def _updated(before: ArrayTree, after: ArrayTree, learning: set[ModelPath]) -> ArrayTree:
    """Statistics as they were, but for these layers: those above saw only what was corrupted."""
    leaves, treedef = jax.tree.flatten(before)
    news = jax.tree.leaves(after)
    chosen = [
        new if _within(path, learning) else old
        for path, old, new in zip(model_paths(before), leaves, news, strict=True)
    ]
    return jax.tree.unflatten(treedef, chosen)


def _within(path: ModelPath, layers: set[ModelPath]) -> bool:
    return any(path[: len(layer)] == layer for layer in layers)

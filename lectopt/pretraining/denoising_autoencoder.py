"""`pretrain_encoder`: a whole network as a denoising autoencoder of its inputs."""

import functools
from collections import OrderedDict
from typing import Any

import optax
from flax import linen

from lectopt.pretraining.decoders import MirroredDecoder
from lectopt.pretraining.network_layers import NetworkLayers
from lectopt.pretraining.reconstruction_tasks import input_reconstruction
from lectopt.pretraining.results import Pretrained
from lectopt.pretraining.stage_training import Recipe


def pretrain_encoder(
    encoder: Any,
    inputs: Any,
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int,
    epochs: int | None = None,
    steps: int | None = None,
    decoder: Any = None,
    corruption: Any = 0.3,
    valid: Any = None,
    key: Any,
    progress: bool = True,
) -> Pretrained:
    r"""Trains an encoder end to end without labels, as a denoising autoencoder of its inputs.

    It minimizes the squared error of reconstructing the inputs x from corrupted ones,

    .. math:: \min \frac{1}{N} \sum_{n=1}^N \frac{1}{d} \| g(f(\tilde x^{(n)})) - x^{(n)} \|^2

    where d is the size of x, the tilde denotes a corruption, f is the encoder, and g a decoder that is discarded
    afterwards. `lo.transfer` copies the encoder into a network that begins with it:
    `lo.transfer(pretrained, network, rename={"": "layers/0"})`.

    Inside `jit` this is a pure function, which can also be vmapped there; it then trains with `lo.train`, and otherwise
    with `lo.fit`.

    Args:
        encoder: the network, in any form that `lo.Task` takes, or a `Task`, whose network and `standardize` are used.
            Without a `decoder` of your own it is an NNX or Linen module whose dense layers and convolutions are called
            one after the other.
        inputs: the inputs, an array [n, ...] of real numbers, or a `Subset` of inputs alone; `subset.unlabelled()`
            drops the labels of another one.
        optimizer: an Optax optimizer.
        batch_size: number of examples in a minibatch, at least 1.
        epochs: number of passes through the inputs, at least 1. Exactly one of `epochs` and `steps` must be given.
        steps: number of steps, that is, parameter updates, at least 1; None if `epochs` is given.
        decoder: a function `rngs -> nnx.Module` whose module maps the outputs of the encoder back to the shape of the
            inputs. None takes the layers of the encoder in reverse order, with rectifiers between them.
        corruption: the share of numbers that are set to 0 at random, in [0, 1), by default 0.3; or a function
            `corruption(key, x)` that returns an array of the shape and dtype of x, [batch, ...].
        valid: inputs to validate on after each epoch, an array [n, ...] or a `Subset` of inputs alone; their losses are
            added to the history. None skips this.
        key: an int or a `jax.random.key`. The encoder starts from the weights that `lo.train` draws with the same key.
        progress: whether to show a progress bar on standard error if training takes more than a second; True by
            default.

    Returns:
        A `Pretrained` with `start`, `model`, and `histories["network"]`.

    Raises:
        ValueError: before anything is compiled, if there are labels, the network does not fit the inputs, or an
            argument is not as described above, the encoder has no layer that could be reversed, or the decoder does not
            return the shape of the inputs.
        TypeError: if `optimizer` is not an Optax optimizer, `decoder` is not a function, or another argument has the
            wrong type.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> def encoder(rngs):
        ...     return nnx.Sequential(nnx.Linear(4, 3, rngs=rngs), nnx.relu)
        >>> x, y = lo.datasets.iris()
        >>> pretrained = lo.pretrain_encoder(encoder, x, lo.adam(1e-3), batch_size=30, epochs=1, key=0)
        >>> network = nnx.Sequential(encoder(nnx.Rngs(0)), nnx.Linear(3, 3, rngs=nnx.Rngs(1)))
        >>> transferred = lo.transfer(pretrained, network, rename={"": "layers/0"})

    Source: R. Legenstein, Deep Learning VO (TU Graz, WS 25/26), lecture 5, "Parameter Initialization" (further
    techniques); Vincent, Larochelle, Lajoie, Bengio and Manzagol (2010), "Stacked denoising autoencoders: learning
    useful representations in a deep network with a local denoising criterion", Journal of Machine Learning Research 11;
    Goodfellow, Bengio and Courville (2016), "Deep Learning", section 14.5.
    """
    recipe = Recipe.of(
        encoder,
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
    if decoder is None:
        network = NetworkLayers(recipe.task, recipe.shapes)
        if not network.shapes:
            raise ValueError("encoder must have a dense layer or a convolution, to be reversed; or give a decoder")
        decoder = functools.partial(MirroredDecoder, list(network.shapes.values()), recipe.shapes.shape[1:])
    elif isinstance(decoder, linen.Module) or not callable(decoder):
        raise TypeError(f"decoder must be a function rngs -> nnx.Module; got {type(decoder).__name__}")
    params, state = recipe.init()
    run = recipe.run(input_reconstruction(recipe.task, decoder, recipe.corrupt), optimizer, params, state, 0)
    state = run.model_state._replace(variables=run.model_state.variables["network"])
    return Pretrained(run.params["network"], state, OrderedDict(network=run.history), recipe.task)

"""`pretrain_encoder`: a whole network as a denoising autoencoder of its inputs."""

import functools
from collections import OrderedDict
from typing import Any

import optax
from flax import linen

from lectopt.pretraining.decoders import Mirror
from lectopt.pretraining.network_layers import NetworkLayers
from lectopt.pretraining.reconstruction_tasks import whole_stage
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
    r"""Trains an encoder end to end without labels, as a denoising autoencoder: what it puts out must tell the inputs.

    .. math:: \min \frac{1}{N} \sum_n \frac{1}{d} \| g(f(\tilde x^{(n)})) - x^{(n)} \|^2

    f is the encoder, the tilde a corruption, and g a decoder that is dropped afterwards. `transfer` takes the encoder
    into a network that begins with it: `lo.transfer(pretrained, network, rename={"": "layers/0"})`.

    Pure within `jit`, and `vmap` in it, where it trains with `train`; otherwise with `fit`, with its progress.

    Args:
        encoder: a network, or a task with one, as for `pretrain_layers`; with a decoder of your own also functions.
        inputs: an array [n, ...], or a Subset, without labels. `subset.unlabelled()` drops them.
        optimizer: an Optax optimizer.
        batch_size: examples in a minibatch.
        epochs: passes through the inputs; give this or steps.
        steps: updates; give this or epochs.
        decoder: a function rngs -> nnx.Module from the encoder's outputs back to the inputs; by default the encoder's
            layers in reverse, with rectifiers between them.
        corruption: the share of numbers that are set to 0, in [0, 1), or a function (key, x [batch, ...]) -> x.
        valid: inputs to validate on after each epoch, for the history.
        key: an int or a `jax.random.key`. The encoder starts from the weights that `train` draws with the same key.
        progress: show a bar on standard error if it takes more than a second.

    Returns:
        A Pretrained: `.start`, `.model`, and `.histories["network"]`.

    Raises:
        ValueError, TypeError: as `pretrain_layers`; if what the decoder puts out has another shape than the inputs.

    Example:
        >>> import lectopt as lo
        >>> from flax import nnx
        >>> def encoder(rngs):
        ...     return nnx.Sequential(nnx.Linear(64, 32, rngs=rngs), nnx.relu)
        >>> def net(rngs):
        ...     return nnx.Sequential(encoder(rngs), nnx.Linear(32, 10, rngs=rngs))
        >>> x, y = lo.datasets.digits()
        >>> pretrained = lo.pretrain_encoder(encoder, x / 16, lo.adam(1e-3), batch_size=32, epochs=2, key=0)
        >>> transferred = lo.transfer(pretrained, net(nnx.Rngs(0)), rename={"": "layers/0"})

    Source: the lecture, "Further techniques"; Vincent et al. (2010), "Stacked denoising autoencoders".
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
        there = NetworkLayers(recipe.task, recipe.shapes)
        if not there.passages:
            raise ValueError("encoder must have a dense layer or a convolution, to be reversed; or give a decoder")
        decoder = functools.partial(Mirror, list(there.passages.values()), recipe.shapes.shape[1:])
    elif isinstance(decoder, linen.Module) or not callable(decoder):
        raise TypeError(f"decoder must be a function rngs -> nnx.Module; got {type(decoder).__name__}")
    params, state = recipe.begin()
    run = recipe.run(whole_stage(recipe.task, decoder, recipe.corrupt), optimizer, params, state, 0)
    state = run.model_state._replace(variables=run.model_state.variables["network"])
    return Pretrained(run.params["network"], state, OrderedDict(network=run.history), recipe.task)

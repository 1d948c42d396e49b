"""Trainings on real data with one fault each, and healthy ones: what `lectopt.diagnose` is judged by.

A seed decides what is held out, the initial weights and the order of the examples. What is wrong with a training, and
right with a healthy one, was judged by its curves, by its layers, and by the same training with the fault mended.
"""

import functools
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import lectopt as lo

WATCH = {"watch": 10}
"""More arguments for every `lo.fit`."""


class Scenario(NamedTuple):
    """A training and what is wrong with it."""

    name: str
    fault: str | None  # the name of the finding; None for a healthy training
    train: Callable[[int], lo.Run]  # from its seed


# Data: seed -> (training part, validation part).


def digits(seed: int) -> tuple[lo.Subset, lo.Subset]:
    return lo.holdout(lo.datasets.digits(), 0.2, key=seed, stratify=True)


def cancer(seed: int) -> tuple[lo.Subset, lo.Subset]:
    return lo.holdout(lo.datasets.breast_cancer(), 0.2, key=seed, stratify=True)


def mnist(seed: int, held_out: float = 0.2) -> tuple[lo.Subset, lo.Subset]:
    return lo.holdout(mnist_5k(), held_out, key=seed, stratify=True)


def raw_diabetes(seed: int) -> tuple[lo.Subset, lo.Subset]:
    return lo.holdout(lo.datasets.diabetes(), 0.2, key=seed)


def diabetes(seed: int) -> tuple[lo.Subset, lo.Subset]:
    """With targets of mean 0 and standard deviation 1 in the training part."""
    x, y = lo.datasets.diabetes()
    known = y[raw_diabetes(seed)[0].indices]
    return lo.holdout((x, (y - known.mean()) / known.std()), 0.2, key=seed)


@functools.cache
def mnist_5k() -> tuple[np.ndarray, np.ndarray]:
    """Handwritten digits, 500 of each class: x float32[5000, 784] in [0, 1], y int32[5000]."""
    x, y = lo.datasets.mnist()
    return x.reshape(-1, 784), y


# Models: functions rngs -> nnx.Module.

zeros, constant, normal = nnx.initializers.zeros, nnx.initializers.constant, nnx.initializers.normal
glorot, fan_in = lo.initializers.glorot_uniform(), lo.initializers.fan_in_uniform()


def gain(factor: float) -> Callable:
    """Weights with which a linear unit's output is that many times as large as its inputs."""
    return nnx.initializers.variance_scaling(factor**2, "fan_in", "normal")


def mlp(*widths: int, act=nnx.relu, weights=glorot, biases=zeros, last=fan_in, last_bias=zeros) -> Callable:
    def net(rngs: nnx.Rngs) -> nnx.Module:
        layer = functools.partial(nnx.Linear, kernel_init=weights, bias_init=biases, rngs=rngs)
        hidden = [step for m, n in pairwise(widths[:-1]) for step in (layer(m, n), act)]
        return nnx.Sequential(*hidden, nnx.Linear(*widths[-2:], kernel_init=last, bias_init=last_bias, rngs=rngs))

    return net


def norm_mlp(*widths: int) -> Callable:
    """With BatchNorm in every hidden layer."""

    def net(rngs: nnx.Rngs) -> nnx.Module:
        hidden = [(nnx.Linear(m, n, rngs=rngs), lo.BatchNorm(n, rngs=rngs), nnx.relu) for m, n in pairwise(widths[:-1])]
        return nnx.Sequential(*(step for steps in hidden for step in steps), nnx.Linear(*widths[-2:], rngs=rngs))

    return net


def conv(side: int, *channels: int) -> Callable:
    """Convolutions that halve images of side x side each, and a linear layer."""
    features = channels[-1] * math.ceil(side / 2 ** len(channels)) ** 2

    def net(rngs: nnx.Rngs) -> nnx.Module:
        layer = functools.partial(nnx.Conv, kernel_size=(3, 3), strides=2, rngs=rngs)
        steps = [step for m, n in pairwise((1, *channels)) for step in (layer(m, n), nnx.relu)]
        image, row = (lambda x: x.reshape(-1, side, side, 1)), (lambda x: x.reshape(-1, features))
        return nnx.Sequential(image, *steps, row, nnx.Linear(features, 10, rngs=rngs))

    return net


def rows(side: int, cell: Callable) -> Callable:
    """A recurrent cell that reads images of side x side row by row."""

    def net(rngs: nnx.Rngs) -> nnx.Module:
        reader = nnx.RNN(cell(side, 48, rngs=rngs))
        split, end = (lambda x: x.reshape(-1, side, side)), (lambda states: states[:, -1])
        return nnx.Sequential(split, reader, end, nnx.Linear(48, 10, rngs=rngs))

    return net


# Trainings: functions seed -> Run.


def training(
    data: Callable, task: Callable, model: Callable, optimizer: Any, epochs: int, batch: int = 32, **options: Any
) -> Callable[[int], lo.Run]:
    task = task(model)

    def train(seed: int) -> lo.Run:
        learn, valid = data(seed)
        arguments = {"valid": valid, "batch_size": batch, "epochs": epochs, "key": seed, "progress": False}
        return lo.fit(task, optimizer, learn, **arguments, **options, **WATCH)

    return train


classify = functools.partial(lo.classification, standardize=True)
regress = functools.partial(lo.regression, standardize=True)
on_digits = functools.partial(training, digits, classify)
on_cancer = functools.partial(training, cancer, classify)
on_raw_cancer = functools.partial(training, cancer, lo.classification)
on_diabetes = functools.partial(training, diabetes, regress)
on_raw_diabetes = functools.partial(training, raw_diabetes, regress)
on_mnist = functools.partial(training, mnist, lo.classification, batch=64)
on_few_mnist = functools.partial(training, functools.partial(mnist, held_out=0.95), lo.classification)


def penalized(coefficient: float, optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    return optax.chain(lo.add_l2(coefficient), optimizer)


def clipped(norm: float, optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    return optax.chain(lo.clip_by_norm(norm), optimizer)


decay = lo.linear_decay
all_alike = {"weights": constant(0.01), "last": constant(0.01)}
large_recurrent = functools.partial(nnx.SimpleCell, recurrent_kernel_init=gain(3))

_FAULTS = {
    "diverged": {
        "diabetes, momentum, rate 0.3": on_diabetes(mlp(10, 32, 1), lo.momentum(0.3), 20),
        "digits, momentum, rate 0.02, one by one": on_digits(mlp(64, 32, 10), lo.momentum(0.02), 6, batch=1),
    },
    "learning rate too low": {
        "digits, sgd, rate 1e-4": on_digits(mlp(64, 64, 10), lo.sgd(1e-4), 20),
        "cancer, tanh, adam, rate 1e-5": on_cancer(mlp(30, 16, 2, act=nnx.tanh), lo.adam(1e-5), 40),
        "mnist, adagrad, rate 1e-4": on_mnist(mlp(784, 64, 10), lo.adagrad(1e-4), 10),
    },
    "learning rate too high": {
        "diabetes, linear, adam, rate 0.5": on_diabetes(mlp(10, 1, last=zeros), lo.adam(0.5), 40),
        "digits, conv, rmsprop, rate 0.05": on_digits(conv(8, 16, 32), lo.rmsprop(0.05), 12),
    },
    "loss plateau": {
        "digits, weights zero": on_digits(mlp(64, 32, 10, weights=zeros, last=zeros), lo.momentum(0.01), 20),
        "mnist, sigmoid, all alike": on_mnist(mlp(784, 64, 10, act=nnx.sigmoid, **all_alike), lo.momentum(0.01), 8),
    },
    "overfitting": {
        "diabetes, wide": on_diabetes(mlp(10, 128, 128, 1), lo.adam(1e-3), 100),
        "cancer, wide": on_cancer(mlp(30, 256, 256, 2), lo.momentum(0.05), 100),
        "mnist, 250 images": on_few_mnist(mlp(784, 128, 128, 10), lo.adam(5e-3), 80),
    },
    "underfitting": {
        "digits, one unit": on_digits(mlp(64, 1, 10, act=nnx.identity), lo.adam(decay(0.02, 1125)), 30),
        "mnist, L2 of 0.05": on_mnist(mlp(784, 32, 10), penalized(0.05, lo.sgd(0.05)), 15),
    },
    "noisy loss": {
        "mnist, one by one": on_mnist(mlp(784, 32, 10), lo.sgd(0.07), 6, batch=1),
        "diabetes, linear, one by one": on_diabetes(mlp(10, 1, last=zeros), lo.sgd(0.03), 30, batch=1),
    },
    "batches too small for BatchNorm": {
        "digits, BatchNorm, pairs": on_digits(norm_mlp(64, 32, 10), lo.sgd(0.01), 8, batch=2),
    },
    "vanishing gradients": {
        "digits, 16 tanh layers": on_digits(
            mlp(64, *[48] * 16, 10, act=nnx.tanh, weights=fan_in), lo.momentum(0.01), 12
        ),
        "mnist, 8 sigmoid layers": on_mnist(mlp(784, *[48] * 8, 10, act=nnx.sigmoid), lo.momentum(0.1), 8),
    },
    "exploding gradients": {
        "digits, 12 sine layers, gain 3": on_digits(
            mlp(64, *[48] * 12, 10, act=jnp.sin, weights=gain(3)), lo.adam(1e-3), 12
        ),
        "mnist, rows, recurrent gain 3": on_mnist(rows(28, large_recurrent), lo.adam(1e-3), 8),
    },
    "dead units": {
        "digits, biases -5": on_digits(mlp(64, 64, 10, biases=constant(-5.0)), lo.momentum(0.01), 20),
        "mnist, biases -1.5": on_mnist(mlp(784, 64, 10, biases=constant(-1.5)), lo.momentum(0.05), 10),
    },
    "saturated units": {
        "digits, tanh, weights of size 1": on_digits(
            mlp(64, 64, 64, 10, act=nnx.tanh, weights=normal(1.0)), lo.sgd(0.03), 15
        ),
        "cancer, sigmoid, inputs unscaled": on_raw_cancer(mlp(30, 32, 2, act=nnx.sigmoid), lo.adam(1e-3), 40),
    },
    "clipped too often": {
        "digits, clipped at 0.01": on_digits(mlp(64, 64, 10), clipped(0.01, lo.momentum(0.02)), 20),
        "diabetes, clipped at 0.005": on_diabetes(mlp(10, 32, 1), clipped(0.005, lo.nesterov(0.02)), 20),
    },
    "still improving": {
        "digits, 4 epochs": on_digits(mlp(64, 64, 10), lo.sgd(0.02), 4),
        "mnist, conv, 4 epochs": on_mnist(conv(28, 4, 8), lo.adam(1e-3), 4),
    },
    "converged early": {
        "digits, softmax, 200 epochs": on_digits(mlp(64, 10, last=zeros), penalized(0.01, lo.momentum(0.01)), 200),
        "diabetes, linear, 300 epochs": on_diabetes(mlp(10, 1, last=zeros), penalized(0.01, lo.momentum(0.005)), 300),
    },
    "wrong initial loss": {
        "mnist, last biases of size 5": on_mnist(
            mlp(784, 64, 10, last_bias=normal(5.0)), penalized(2e-3, lo.nesterov(decay(0.1, 630))), 10
        ),
        "diabetes, targets unscaled": on_raw_diabetes(mlp(10, 32, 1), lo.adam(0.03), 30),
    },
}
_HEALTHY = {
    "digits, momentum": on_digits(mlp(64, 64, 10), penalized(1e-3, lo.momentum(decay(0.03, 540))), 12),
    "digits, conv, adam": on_digits(conv(8, 16, 32), penalized(1e-3, lo.adam(decay(5e-3, 450))), 10),
    "digits, six tanh layers, clipped at 1": on_digits(
        mlp(64, *[48] * 6, 10, act=nnx.tanh), clipped(1.0, penalized(1e-3, lo.momentum(decay(0.02, 540)))), 12
    ),
    "digits, rows, GRU, adam": on_digits(rows(8, nnx.GRUCell), penalized(5e-4, lo.adam(decay(1e-2, 540))), 12),
    "mnist, nesterov": on_mnist(mlp(784, 64, 10), penalized(2e-3, lo.nesterov(decay(0.1, 630))), 10),
    "mnist, conv, rmsprop": on_mnist(conv(28, 4, 8), penalized(5e-4, lo.rmsprop(decay(5e-3, 630))), 10),
    "mnist, BatchNorm, adam": on_mnist(norm_mlp(784, 64, 64, 10), penalized(1e-3, lo.adam(decay(2e-3, 504))), 8),
    "cancer, logistic, adagrad": on_cancer(mlp(30, 2, last=zeros), penalized(2e-3, lo.adagrad(0.1)), 15),
    "cancer, tanh, sgd, patience": on_cancer(
        mlp(30, 16, 2, act=nnx.tanh), penalized(2e-3, lo.sgd(0.1)), 100, patience=5
    ),
    "diabetes, tanh, momentum": on_diabetes(
        mlp(10, 16, 1, act=nnx.tanh), penalized(0.01, lo.momentum(decay(5e-3, 180))), 15
    ),
}
FAULTS = [Scenario(name, fault, train) for fault, named in _FAULTS.items() for name, train in named.items()]
HEALTHY = [Scenario(name, None, train) for name, train in _HEALTHY.items()]

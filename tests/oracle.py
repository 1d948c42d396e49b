"""The lecture's algorithms as plain float64 loops, written from its formulas; lectopt is never imported here.

An optimizer is a generator of (w, point) after each step: the weights, and the point where the next gradient is
taken. `gradient(k, w)` is the gradient of step k = 0, 1, 2, ... at w; hyperparameters are functions of k.
"""

from collections.abc import Callable, Iterator

import numpy as np

Gradient = Callable[[int, np.ndarray], np.ndarray]
Number = Callable[[int], float]
Steps = Iterator[tuple[np.ndarray, np.ndarray]]


def sgd(gradient: Gradient, w: np.ndarray, steps: int, learning_rate: Number) -> Steps:
    for k in range(steps):
        w = w - learning_rate(k) * gradient(k, w)
        yield w, w


def momentum(gradient: Gradient, w: np.ndarray, steps: int, learning_rate: Number, momentum: Number) -> Steps:
    v = np.zeros_like(w)
    for k in range(steps):
        v = momentum(k) * v - learning_rate(k) * gradient(k, w)
        w = w + v
        yield w, w


def nesterov(
    gradient: Gradient,
    w: np.ndarray,
    steps: int,
    learning_rate: Number,
    momentum: Number,
    fraction: Number = lambda k: 0.0,
) -> Steps:
    """A fraction of each weight decays at each step."""
    v = np.zeros_like(w)
    for k in range(steps):
        g = gradient(k, w + momentum(k) * v)
        v = momentum(k) * v - learning_rate(k) * g
        w = w + v - fraction(k) * w
        yield w, w + momentum(k + 1) * v


def adagrad(gradient: Gradient, w: np.ndarray, steps: int, learning_rate: Number, eps: Number) -> Steps:
    r = np.zeros_like(np.abs(w))
    for k in range(steps):
        g = gradient(k, w)
        r = r + np.abs(g) ** 2
        w = w - learning_rate(k) / (eps(k) + np.sqrt(r)) * g
        yield w, w


def rmsprop(gradient: Gradient, w: np.ndarray, steps: int, learning_rate: Number, decay: Number, eps: Number) -> Steps:
    r = np.zeros_like(np.abs(w))
    for k in range(steps):
        g = gradient(k, w)
        r = decay(k) * r + (1 - decay(k)) * np.abs(g) ** 2
        w = w - learning_rate(k) / np.sqrt(eps(k) + r) * g
        yield w, w


def rmsprop_nesterov(
    gradient: Gradient,
    w: np.ndarray,
    steps: int,
    learning_rate: Number,
    decay: Number,
    momentum: Number,
    eps: Number,
) -> Steps:
    v, r = np.zeros_like(w), np.zeros_like(np.abs(w))
    for k in range(steps):
        g = gradient(k, w + momentum(k) * v)
        r = decay(k) * r + (1 - decay(k)) * np.abs(g) ** 2
        v = momentum(k) * v - learning_rate(k) / np.sqrt(eps(k) + r) * g
        w = w + v
        yield w, w + momentum(k + 1) * v


def adam(
    gradient: Gradient,
    w: np.ndarray,
    steps: int,
    learning_rate: Number,
    b1: Number,
    b2: Number,
    eps: Number,
    eps_root: Number = lambda k: 0.0,
    weight_decay: Number = lambda k: 0.0,
) -> Steps:
    """AdamW where weights decay."""
    s, r = np.zeros_like(w), np.zeros_like(np.abs(w))
    for k in range(steps):
        t = k + 1
        g = gradient(k, w)
        s = b1(k) * s + (1 - b1(k)) * g
        r = b2(k) * r + (1 - b2(k)) * np.abs(g) ** 2
        s_hat, r_hat = s / (1 - b1(k) ** t), r / (1 - b2(k) ** t)
        w = w - learning_rate(k) * (s_hat / (np.sqrt(r_hat + eps_root(k)) + eps(k)) + weight_decay(k) * w)
        yield w, w


def averaged(steps: Steps, decay: Number | None = None) -> Steps:
    """With the average of all w so far in place of w: the mean, or an exponential one whose weights add up to 1."""
    average = 0.0
    for k, (w, point) in enumerate(steps):
        share = 1 / (k + 1) if decay is None else (1 - decay(k)) / (1 - decay(k) ** (k + 1))
        average = (1 - share) * average + share * w
        yield average, point


def clipped(gradient: Gradient, max_norm: Number) -> Gradient:
    """The gradient, no longer than max_norm."""

    def clip(k: int, w: np.ndarray) -> np.ndarray:
        g = gradient(k, w)
        norm = np.sqrt(np.sum(np.abs(g) ** 2))
        return max_norm(k) * g / norm if norm > max_norm(k) else g

    return clip


def clipped_by_value(gradient: Gradient, max_value: Number) -> Gradient:
    """The gradient, with no entry larger than max_value."""

    def clip(k: int, w: np.ndarray) -> np.ndarray:
        g = gradient(k, w)
        return g * np.minimum(1, max_value(k) / np.where(g == 0, 1, np.abs(g)))

    return clip


def penalized(gradient: Gradient, coefficient: Number) -> Gradient:
    """The gradient of loss + coefficient ||w||^2."""
    return lambda k, w: gradient(k, w) + 2 * coefficient(k) * w


def line(start: float, end: float, horizon: float) -> Number:
    """From start to end in a straight line until step `horizon`, constant from then on."""
    return lambda k: (1 - k / horizon) * start + k / horizon * end if k < horizon else end


def half_cosine(start: float, horizon: float, alpha: float = 0.0) -> Number:
    """From start to alpha start along half a cosine until step `horizon`, constant from then on."""
    return lambda k: start * ((1 - alpha) * (1 + np.cos(np.pi * min(k / horizon, 1))) / 2 + alpha)


def exponential(start: float, horizon: float, rate: float, end: float | None = None) -> Number:
    """start rate^(k / horizon), no further than end."""
    beyond = {None: lambda x: x, True: lambda x: max(x, end), False: lambda x: min(x, end)}
    return lambda k: beyond[None if end is None else rate < 1](start * rate ** (k / horizon))


def joined(parts: list[Number], boundaries: list[float]) -> Number:
    """Each part from its own step 0 on."""

    def at(k: int) -> float:
        i = sum(k >= b for b in boundaries)
        return parts[i](k - ([0, *boundaries])[i])

    return at


def power_law(start: float, power: float, horizon: float) -> Number:
    """start / (1 + k / horizon)^power."""
    return lambda k: start / (1 + k / horizon) ** power


# One layer as a denoising autoencoder: tanh or a rectifier, a linear decoder, stochastic gradient descent.

ACTIVATIONS = {
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
}


def denoise(h, layer, decoder, batches, activation, corrupt, learning_rate, valid):
    """(layer, decoder, loss of each minibatch, loss on `valid` after each step); h [n, d], batches of rows."""
    act, slope = ACTIVATIONS[activation]
    (w, b), (u, c) = layer, decoder
    losses, of_valid = [], []
    for rows in batches:
        x, noisy = h[rows], corrupt(h[rows])
        z = noisy @ w + b
        error = act(z) @ u + c - x
        losses.append(np.mean(error**2))
        back = 2 * error / error.size
        below = back @ u.T * slope(z)
        u, c = u - learning_rate * act(z).T @ back, c - learning_rate * back.sum(0)
        w, b = w - learning_rate * noisy.T @ below, b - learning_rate * below.sum(0)
        of_valid.append(np.mean((act(corrupt(valid) @ w + b) @ u + c - valid) ** 2))
    return (w, b), (u, c), losses, of_valid


def population_round(losses, numbers, replaced, uniforms, factors, ranges, drawn=None, resampled=None):
    """What a population does between two rounds, member by member in plain Python: (parents, numbers of the next).

    losses: one a member, NaN for none; replaced: how many of the worst; uniforms choose among the best; factors and
    ranges by name; where `resampled`, the drawn values take the place of multiplied ones.
    """
    n = len(losses)
    scored = sorted((i for i in range(n) if losses[i] == losses[i]), key=lambda i: (losses[i], i))
    order = scored + [i for i in range(n) if losses[i] != losses[i]]
    worst = [i for place, i in enumerate(order) if place >= n - replaced or losses[i] != losses[i]]
    best = scored[:replaced]
    parents, following = list(range(n)), {name: list(column) for name, column in numbers.items()}
    for i in worst if best else []:
        parents[i] = best[int(np.float32(uniforms[i]) * np.float32(len(best)))]
        for name, column in numbers.items():
            low, high = ranges[name]
            value = np.float32(column[parents[i]]) * np.float32(factors[name][i])
            if resampled is not None and resampled[i]:
                value = np.float32(drawn[name][i])
            following[name][i] = min(max(value, np.float32(low)), np.float32(high))
    return parents, following

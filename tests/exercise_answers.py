"""Of each exercise in the notebooks: what the student replaces, a right answer, and three wrong ones."""

STOPPED = """best = 0
    for epoch, loss in enumerate(valid_losses):
        if loss < valid_losses[best]:
            best = epoch
        if epoch - best == patience:
            break
    return best + 1"""
ADAM = """path = []
    for _ in range(steps):
        w = w - 0.1 * gradient(w)  # your answer
        path.append(w)
    return path"""
RIGHT_ADAM = """s, r, path = 0 * w, 0 * w, []
    for t in range(1, steps + 1):
        g = gradient(w)
        s, r = 0.9 * s + 0.1 * g, 0.999 * r + 0.001 * g**2
        w = w - 0.1 * (s / (1 - 0.9**t)) / (np.sqrt(r / (1 - 0.999**t)) + 1e-8)
        path.append(w)
    return path"""
EDGES = '{"momentum": (lo.momentum, 0.02), "Nesterov": (lo.nesterov, 0.02)}'

ANSWERS = {
    "01": [
        (
            "w = w - rate * s / (np.sqrt(r) + delta)",
            "t = len(path) + 1; w = w - rate * s / (1 - b1**t) / (np.sqrt(r / (1 - b2**t)) + delta)",
            "t = len(path) + 1; w = w - rate * s / (1 - b1**t) / (np.sqrt(r) + delta)",
            "t = len(path) + 1; w = w - rate * s / (1 - b1**t) / np.sqrt(r / (1 - b2**t) + delta)",
            "t = len(path) + 1; w = w + rate * s / (1 - b1**t) / (np.sqrt(r / (1 - b2**t)) + delta)",
        ),
        (
            "gradient(w)",
            "gradient(w + alpha * v)",
            "gradient(w - alpha * v)",
            "gradient(w + v)",
            "gradient(w + rate * v)",
        ),
        (
            "return (1 - k / 100)",
            "k = min(k, 100); return (1 - k / 100)",
            "k = min(k, 99); return (1 - k / 100)",
            "k = min(k + 1, 100); return (1 - k / 100)",
            "k = 100 - min(k, 100); return (1 - k / 100)",
        ),
        (
            EDGES,
            '{"momentum": (lo.momentum, 0.038), "Nesterov": (lo.nesterov, 0.01357)}',
            '{"momentum": (lo.momentum, 0.038), "Nesterov": (lo.nesterov, 0.038)}',
            '{"momentum": (lo.momentum, 0.02), "Nesterov": (lo.nesterov, 0.01357)}',
            '{"momentum": (lo.momentum, 0.04), "Nesterov": (lo.nesterov, 0.013)}',
        ),
    ],
    "02": [
        ("(1 + k)", "(1 + k / 50)", "(1 + k / 50) ** 0.5", "(1 + (k + 1) / 50)", "(1 + k / 100)"),
        (
            "* k / 110",
            "* min(k - 10, 100) / 100",
            "* (k - 10) / 100",
            "* min(k, 100) / 100",
            "* min(k - 10, 100) / 110",
        ),
        ("my_power = 0.4", "my_power = 1.0", "my_power = 0.5", "my_power = 1.1", "my_power = 0.0"),
        (
            '"learning_rate": 0.001, "momentum": 0.9',
            '"learning_rate": 0.03, "momentum": 0.9',
            '"learning_rate": 0.0001, "momentum": 0.9',
            '"learning_rate": 0.01, "momentum": 0.0',
            '"learning_rate": 1.0, "momentum": 0.9',
        ),
    ],
    "03": [
        (
            "np.clip(g, -nu, nu)",
            "g * min(1, nu / np.linalg.norm(g))",
            "g * nu / np.linalg.norm(g)",
            "g * min(1, nu / abs(g).max())",
            "g * min(1, nu / np.linalg.norm(g) ** 2)",
        ),
        (
            "6 / np.sqrt(shape[0] + shape[1])",
            "np.sqrt(6 / (shape[0] + shape[1]))",
            "np.sqrt(6 / shape[0])",
            "np.sqrt(2 / (shape[0] + shape[1]))",
            "np.sqrt(6) / (shape[0] + shape[1])",
        ),
        ("my_sigma = 1.0", "my_sigma = np.sqrt(2)", "my_sigma = 2.0", "my_sigma = 1.2", "my_sigma = 0.5"),
        (
            "np.zeros(3)",
            "np.log([0.7, 0.2, 0.1])",
            "np.array([0.7, 0.2, 0.1])",
            "-np.log([0.7, 0.2, 0.1])",
            "np.log([0.2, 0.7, 0.1])",
        ),
    ],
    "04": [
        (
            "return z  # your answer",
            "return (z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + 1e-5)",
            "return (z - z.mean()) / np.sqrt(z.var() + 1e-5)",
            "return (z - z.mean(axis=0)) / (z.var(axis=0) + 1e-5)",
            "return (z - z.mean(axis=0)) / (z.std(axis=0) + 1e-5)",
        ),
        (
            "return z  # your answer",
            "return (z - z.mean(axis=1, keepdims=True)) / np.sqrt(z.var(axis=1, keepdims=True) + 1e-5)",
            "return (z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + 1e-5)",
            "return (z - z.mean(axis=1, keepdims=True)) / z.std(axis=1, keepdims=True)",
            "return (z - z.mean(axis=1, keepdims=True)) / np.sqrt(z.var(axis=1, ddof=1, keepdims=True) + 1e-5)",
        ),
        (
            "np.mean(variances)",
            "np.mean(variances) + np.var(means)",
            "np.var(means)",
            "np.mean(variances) + np.mean(means) ** 2",
            "np.mean(np.sqrt(variances)) ** 2 + np.var(means)",
        ),
    ],
    "05": [
        (
            "return h",
            "return np.where(random.uniform(size=h.shape) < share, 0.0, h)",
            "return np.where(random.uniform(size=h.shape) < 1 - share, 0.0, h)",
            "return np.where(random.uniform(size=h.shape) < share, 0.0, h / (1 - share))",
            "return h * (1 - share)",
        ),
        (
            "mine = lo.adam(3e-3)",
            'mine = optax.partition({"taken": optax.set_to_zero(), "new": lo.adam(3e-3)}, transferred.labels)',
            'mine = optax.partition({"new": optax.set_to_zero(), "taken": lo.adam(3e-3)}, transferred.labels)',
            'mine = optax.partition({"new": lo.adam(3e-3), "taken": lo.adam(3e-4)}, transferred.labels)',
            "mine = optax.set_to_zero()",
        ),
        (
            "gains.mean() / gains.std()",
            "gains.mean() / (gains.std(ddof=1) / np.sqrt(len(gains)))",
            "gains.mean() / gains.std(ddof=1)",
            "gains.mean() / (gains.std() / np.sqrt(len(gains)))",
            "gains.mean() / (gains.var(ddof=1) / np.sqrt(len(gains)))",
        ),
    ],
    "06": [
        (
            "order = np.arange(n)\n    return [(order, held_out)",
            "order = random.permutation(n)\n    return [(np.setdiff1d(order, held_out), held_out)",
            "order = np.arange(n)\n    return [(np.setdiff1d(order, held_out), held_out)",
            "order = random.permutation(n)\n    return [(order, held_out)",
            "order = random.integers(n, size=n)\n    return [(np.setdiff1d(np.arange(n), held_out), held_out)",
        ),
        (
            "return np.argmin(means)",
            "best = np.argmin(means); return np.argmax(means <= means[best] + errors[best])",
            "return np.argmax(means - errors <= means.min())",
            "best = np.argmin(means); return np.max(np.flatnonzero(means <= means[best] + errors[best]))",
            "return 0",
        ),
        ("tries = 20", "tries = 59", "tries = 58", "tries = 60", "tries = 19"),
        ("my_lambda = 1e-3", "my_lambda = 0.295", "my_lambda = 1e-3 / 295", "my_lambda = 295.0", "my_lambda = 0.59"),
    ],
    "07": [
        ("less_probable = 0", "less_probable = 4", "less_probable = 5", "less_probable = 6", "less_probable = 10"),
        (
            "networks = 0",
            "networks = 36 + 36**2 + 36**3",
            "networks = 36**3",
            "networks = 3 * 36",
            "networks = 4 * 3 * 3",
        ),
        ("excess = 0.0", "excess = 0.0211", "excess = 0.009", "excess = 0.027", "excess = 0.018"),
    ],
    "08": [
        (
            "max_norm = 0.01",
            'max_norm = float(np.quantile(sound.history.steps["gradient_norm"], 0.95))',
            'max_norm = float(np.quantile(sound.history.steps["gradient_norm"], 0.5))',
            'max_norm = float(np.quantile(sound.history.steps["gradient_norm"], 0.05))',
            "max_norm = 1e3",
        ),
        (
            "return len(valid_losses)",
            STOPPED,
            "return int(np.argmin(valid_losses)) + 1",
            STOPPED.replace("best + 1", "epoch + 1"),
            STOPPED.replace("== patience", "> patience"),
        ),
        ('{"rate": 0.02}', '{"scale": 2.0}', '{"rate": 0.001}', '{"scale": 0.5}', '{"penalty": 0.0}'),
    ],
    "09": [
        (
            "return 0.01",
            "return 0.01 * min(k / 100, 1)",
            "return 0.01 * k / 100",
            "return 0.01 * min((k + 1) / 100, 1)",
            "return 0.01 * min(k / 99, 1)",
        ),
        (
            ADAM,
            RIGHT_ADAM,
            RIGHT_ADAM.replace("(s / (1 - 0.9**t))", "s"),
            RIGHT_ADAM.replace("(1, steps + 1)", "(2, steps + 2)"),
            RIGHT_ADAM.replace("np.sqrt(r / (1 - 0.999**t)) + 1e-8", "np.sqrt(r / (1 - 0.999**t) + 1e-8)"),
        ),
        (
            "np.ones((4, 4))",
            "np.tril(np.ones((4, 4)))",
            "np.triu(np.ones((4, 4)))",
            "np.tril(np.ones((4, 4)), -1)",
            "np.eye(4)",
        ),
    ],
}

"""Networks that were trained in PyTorch and kept as safetensors give the same outputs in Flax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import lectopt as lo

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")

pytestmark = pytest.mark.usefixtures("full_precision")  # it is compared with PyTorch's

X, Y = lo.datasets.digits()
X = (X[:100] / 16).astype(np.float32)
Y = Y[:100]
torch.set_num_threads(1)  # several would wait for each other longer than they compute


def train(network, x):
    """Two epochs in PyTorch; in evaluation mode afterwards."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(2):
        for rows in torch.randperm(len(x)).split(50):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(x[rows]), torch.tensor(Y)[rows].long()).backward()
            optimizer.step()
    return network.eval()


def saved(network, tmp_path):
    safetensors.save_file(network.state_dict(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def agree(module, x, network, theirs):
    module.eval()
    with torch.no_grad():
        wanted = network(theirs).numpy()
    np.testing.assert_allclose(module(jnp.asarray(x)), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_dense_layers_and_norms(tmp_path):
    """The second kernel is square: only its outputs show whether it was turned."""
    torch.manual_seed(1)
    network = train(
        torch.nn.Sequential(
            torch.nn.Linear(64, 32), torch.nn.BatchNorm1d(32), torch.nn.ReLU(), torch.nn.Linear(32, 32),
            torch.nn.LayerNorm(32), torch.nn.Tanh(), torch.nn.Linear(32, 10),
        ),
        torch.tensor(X),
    )  # fmt: skip
    rngs = nnx.Rngs(0)
    target = nnx.Sequential(
        nnx.Linear(64, 32, rngs=rngs), nnx.BatchNorm(32, rngs=rngs), nnx.relu, nnx.Linear(32, 32, rngs=rngs),
        nnx.LayerNorm(32, epsilon=1e-5, rngs=rngs), jnp.tanh, nnx.Linear(32, 10, rngs=rngs),
    )  # fmt: skip
    got = lo.transfer(saved(network, tmp_path), target, layout="torch", rename={"": "layers"}, statistics="take")
    agree(got.model, X, network, torch.tensor(X))
    assert [row.path for row in got.rows if row.outcome == "left"] == ["1/num_batches_tracked"]
    assert {row.outcome for row in got.rows} == {"taken", "left"}


class TheirConvolutions(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.one = torch.nn.Conv2d(1, 8, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.two = torch.nn.Conv2d(8, 8, (3, 5), padding=(1, 2), groups=2)
        self.head = torch.nn.Linear(8 * 4 * 4, 10)

    def forward(self, x):
        x = torch.nn.functional.max_pool2d(torch.relu(self.norm(self.one(x))), 2)
        return self.head(torch.flatten(torch.relu(self.two(x)), 1))


class Convolutions(nnx.Module):
    def __init__(self, rngs):
        self.one = nnx.Conv(1, 8, (3, 3), rngs=rngs)
        self.norm = lo.BatchNorm(8, rngs=rngs)
        self.two = nnx.Conv(8, 8, (3, 5), feature_group_count=2, rngs=rngs)
        self.head = nnx.Linear(8 * 4 * 4, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.norm(self.one(x))), (2, 2), (2, 2))
        return self.head(nnx.relu(self.two(x)).reshape(x.shape[0], -1))


def test_convolutions_and_what_reads_a_flattened_image(tmp_path):
    torch.manual_seed(1)
    network = train(TheirConvolutions(), torch.tensor(X).reshape(-1, 1, 8, 8))
    how = {"layout": "torch", "statistics": "take"}
    path = saved(network, tmp_path)
    got = lo.transfer(path, Convolutions(nnx.Rngs(0)), flattened={"head": (8, 4, 4)}, **how)
    agree(got.model, X.reshape(-1, 8, 8, 1), network, torch.tensor(X).reshape(-1, 1, 8, 8))
    assert {row.source for row in got.rows if row.outcome == "taken"} >= {"norm/running_mean", "norm/running_var"}
    kept = lo.transfer(path, Convolutions(nnx.Rngs(0)), layout="torch", statistics="keep").model
    np.testing.assert_array_equal(kept.norm.mean[...], np.zeros(8))


def test_convolutions_in_one_dimension_and_embeddings(tmp_path):
    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words = torch.nn.Embedding(17, 6)
            self.conv = torch.nn.Conv1d(6, 5, 3, padding=1, bias=False)
            self.head = torch.nn.Linear(5, 10)

        def forward(self, x):
            return self.head(self.conv(self.words(x).transpose(1, 2)).mean(2))

    class Ours(nnx.Module):
        def __init__(self, rngs):
            self.words = nnx.Embed(17, 6, rngs=rngs)
            self.conv = nnx.Conv(6, 5, (3,), use_bias=False, rngs=rngs)
            self.head = nnx.Linear(5, 10, rngs=rngs)

        def __call__(self, x):
            return self.head(self.conv(self.words(x)).mean(1))

    torch.manual_seed(1)
    tokens = (X * 16).astype(np.int32)
    network = train(Theirs(), torch.tensor(tokens))
    got = lo.transfer(saved(network, tmp_path), Ours(nnx.Rngs(0)), layout="torch")
    agree(got.model, tokens, network, torch.tensor(tokens))
    assert {row.outcome for row in got.rows} == {"taken"}


def test_half_precision(tmp_path):
    network = torch.nn.Linear(64, 10).to(torch.bfloat16)
    got = lo.transfer(saved(network, tmp_path), nnx.Linear(64, 10, rngs=nnx.Rngs(0)), layout="torch").model
    np.testing.assert_array_equal(got.kernel[...], network.weight.detach().float().numpy().T)
    assert got.kernel[...].dtype == jnp.float32


def test_strides_norms_of_groups_and_kernels_turned_around(tmp_path):
    """A transposed convolution reverses a strided one; a flattened picture that is not square, and its norm."""

    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = torch.nn.ModuleList(
                [torch.nn.Conv2d(1, 4, (2, 4), (2, 4)), torch.nn.ConvTranspose2d(4, 4, 2, 2)]
            )
            self.norm = torch.nn.GroupNorm(2, 4)
            self.over = torch.nn.BatchNorm1d(4 * 8 * 4)
            self.head = torch.nn.Sequential(torch.nn.Linear(4 * 8 * 4, 10))

        def forward(self, x):
            x = self.norm(self.blocks[1](torch.relu(self.blocks[0](x))))
            return self.head(torch.flatten(x, 1))

    class Ours(nnx.Module):
        def __init__(self, rngs):
            down = nnx.Conv(1, 4, (2, 4), strides=(2, 4), padding="VALID", rngs=rngs)
            up = nnx.ConvTranspose(4, 4, (2, 2), (2, 2), padding="VALID", transpose_kernel=True, rngs=rngs)
            self.layers = nnx.List([down, up])
            self.norm = nnx.GroupNorm(4, 2, epsilon=1e-5, rngs=rngs)
            self.head = nnx.Linear(4 * 8 * 4, 10, rngs=rngs)

        def __call__(self, x):
            x = self.norm(self.layers[1](nnx.relu(self.layers[0](x))))
            return self.head(x.reshape(len(x), -1))

    torch.manual_seed(1)
    network = train(Theirs(), torch.tensor(X).reshape(-1, 1, 8, 8))
    rename = {"blocks/*": "layers/*", "head.0": "head", "over": None}
    options = {"layout": "torch", "rename": rename, "flattened": {"head": (4, 8, 4)}}
    got = lo.transfer(saved(network, tmp_path), Ours(nnx.Rngs(0)), **options)
    agree(got.model, X.reshape(-1, 8, 8, 1), network, torch.tensor(X).reshape(-1, 1, 8, 8))
    assert "new" not in {row.outcome for row in got.rows}


def test_a_square_kernel_is_turned(tmp_path):
    network = torch.nn.Linear(8, 8)
    got = lo.transfer(saved(network, tmp_path), nnx.Linear(8, 8, rngs=nnx.Rngs(0)), layout="torch")
    np.testing.assert_array_equal(got.model.kernel[...], network.weight.detach().numpy().T)


def test_a_message_has_the_shape_of_the_file(tmp_path):
    path, target = saved(torch.nn.Linear(8, 4), tmp_path), nnx.Linear(8, 5, use_bias=False, rngs=nnx.Rngs(0))
    with pytest.raises(
        ValueError, match=r"weight of source has \(4, 8\), turned to \(8, 4\), kernel of target \(8, 5\)"
    ):
        lo.transfer(path, target, layout="torch")


def test_kinds_of_numbers(tmp_path):
    for dtype in (torch.float64, torch.float16):
        path = saved(torch.nn.Linear(4, 4).to(dtype), tmp_path)
        assert (
            lo.transfer(path, nnx.Linear(4, 4, rngs=nnx.Rngs(0)), layout="torch").model.kernel[...].dtype == "float32"
        )
    for dtype in (torch.int64, torch.complex64, torch.bool):
        safetensors.save_file({"weight": torch.ones(4, 4).to(dtype)}, tmp_path / "other.safetensors")
        with pytest.raises(
            ValueError, match=r"the same kind of numbers; weight of source is .*, kernel of target float32"
        ):
            lo.transfer(tmp_path / "other.safetensors", nnx.Linear(4, 4, rngs=nnx.Rngs(0)), layout="torch")


ROWS = torch.linspace(-1, 1, 5 * 8).reshape(5, 8)
IMAGES = torch.linspace(-1, 1, 2 * 4 * 6 * 6).sin().reshape(2, 4, 6, 6)
THEIRS = IMAGES.permute(0, 2, 3, 1).numpy()  # as Flax has them


def outputs_of(network, x):
    with torch.no_grad():
        return network(x).numpy()


DENSE = {
    "Linear": lambda rngs: nnx.Linear(8, 8, rngs=rngs),
    "outputs last": lambda rngs: nnx.Einsum("bi,io->bo", (8, 8), (8,), rngs=rngs),
    "outputs first": lambda rngs: nnx.Einsum("bi, oi -> bo", (8, 8), (8,), rngs=rngs),
    "several outputs": lambda rngs: nnx.LinearGeneral(8, (2, 4), rngs=rngs),
    "several inputs": lambda rngs: nnx.LinearGeneral((2, 4), 8, axis=(-2, -1), rngs=rngs),
}


@pytest.mark.parametrize("make", DENSE.values(), ids=DENSE)
def test_dense_layers_of_all_kinds(make, tmp_path):
    torch.manual_seed(0)
    network, target = torch.nn.Linear(8, 8), make(nnx.Rngs(0))
    got = lo.transfer(saved(network, tmp_path), target, layout="torch")
    x = ROWS.numpy().reshape(5, *getattr(target, "in_features", (8,))) if hasattr(target, "axis") else ROWS.numpy()
    np.testing.assert_allclose(got.model(x).reshape(5, 8), outputs_of(network, ROWS), atol=1e-6)
    assert {row.outcome for row in got.rows} == {"taken"}


@pytest.mark.parametrize(("outputs", "window"), [(4, 2), (3, 3)])
@pytest.mark.parametrize("transpose_kernel", [False, True])
@pytest.mark.parametrize("kind", ["NNX", "Linen"])
def test_transposed_convolutions(outputs, window, transpose_kernel, kind, tmp_path):
    torch.manual_seed(0)
    network = torch.nn.ConvTranspose2d(4, outputs, window, 2)
    how = {"padding": "VALID", "transpose_kernel": transpose_kernel}
    path = saved(network, tmp_path)
    if kind == "NNX":
        layer = nnx.ConvTranspose(4, outputs, (window, window), (2, 2), **how, rngs=nnx.Rngs(0))
        y = lo.transfer(path, layer, layout="torch").model(THEIRS)
    else:
        layer = linen.ConvTranspose(outputs, (window, window), (2, 2), **how)
        fresh = {"params": {"up": layer.init(jax.random.key(0), THEIRS)["params"]}}
        told = {"layout": "torch", "rename": {"": "up"}, "transposed": () if transpose_kernel else ["up"]}
        y = layer.apply({"params": lo.transfer(path, fresh, **told).model["params"]["up"]}, THEIRS)
    np.testing.assert_allclose(y, outputs_of(network, IMAGES).transpose(0, 2, 3, 1), atol=1e-6)


@pytest.mark.parametrize("window", [(3,), (3, 3)])
def test_a_square_kernel_of_linen_must_be_told(window, tmp_path):
    path = saved({1: torch.nn.Conv1d, 2: torch.nn.Conv2d}[len(window)](4, 4, 3), tmp_path)
    kernel = {"kernel": jnp.zeros((*window, 4, 4)), "bias": jnp.zeros(4)}
    for name in ("up", "ConvTranspose_0"):
        with pytest.raises(
            ValueError, match=f"transposed must hold the paths of.*'{name}' has as many inputs as outputs"
        ):
            lo.transfer(path, ({name: kernel}, {}), layout="torch", rename={"": name})
    taken = lo.transfer(path, ({"Conv_0": kernel}, {}), layout="torch", rename={"": "Conv_0"}).model
    theirs = safetensors.load_file(path)["weight"]
    np.testing.assert_array_equal(taken[0]["Conv_0"]["kernel"][2, ..., 3, 1], theirs[1, 3, 2])


UNKNOWN = {
    "an Einsum with a batch": (
        lambda rngs: nnx.Einsum("bi,bio->bo", (8, 8, 1), rngs=rngs),
        "axis of inputs and one of",
    ),
    "axes in disorder": (lambda rngs: nnx.LinearGeneral((2, 4), 8, axis=(-1, -2), rngs=rngs), "its axes in order"),
    "a batch": (lambda rngs: nnx.LinearGeneral(4, 4, batch_axis={0: 4}, rngs=rngs), "without batch_axis"),
}


@pytest.mark.parametrize(("make", "message"), UNKNOWN.values(), ids=UNKNOWN)
def test_layers_that_cannot_be_converted_are_refused(make, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        lo.transfer(saved(torch.nn.Linear(8, 8, bias=False), tmp_path), make(nnx.Rngs(0)), layout="torch")


def test_an_einsum_of_linen_is_refused(tmp_path):
    target = ({"Einsum_0": {"kernel": jnp.zeros((8, 8))}}, {})
    with pytest.raises(ValueError, match=r"not include an Einsum, .*; got Einsum_0"):
        lo.transfer(saved(torch.nn.Linear(8, 8, bias=False), tmp_path), target, layout="torch", rename={"": "Einsum_0"})


def test_attention_of_dense_layers(tmp_path):
    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.query, self.key, self.value, self.out = (torch.nn.Linear(8, 8) for _ in range(4))

        def forward(self, x):
            query, key, value = (f(x).reshape(1, 5, 2, 4).transpose(1, 2) for f in (self.query, self.key, self.value))
            attended = torch.nn.functional.scaled_dot_product_attention(query, key, value)
            return self.out(attended.transpose(1, 2).reshape(1, 5, 8))

    torch.manual_seed(0)
    network, target = Theirs(), nnx.MultiHeadAttention(2, 8, decode=False, rngs=nnx.Rngs(0))
    got = lo.transfer(saved(network, tmp_path), target, layout="torch")
    np.testing.assert_allclose(got.model(ROWS.numpy()[None]), outputs_of(network, ROWS[None]), atol=1e-6)


@pytest.mark.parametrize("statistics", ["take", None])
def test_averages_have_no_place_in_a_window(statistics, tmp_path):
    path, target = saved(torch.nn.BatchNorm1d(8), tmp_path), lo.BatchNorm(8, window=2, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"running_mean, running_var of source have no place among window_count"):
        lo.transfer(path, target, layout="torch", statistics=statistics)
    kept = lo.transfer(path, target, layout="torch", statistics="keep")
    assert {row.path for row in kept.rows if row.outcome == "taken"} == {"bias", "scale"}
    with pytest.raises(ValueError, match=r"window_count, .* of source have no place among mean, var"):
        lo.transfer(target, lo.BatchNorm(8, rngs=nnx.Rngs(0)), statistics=statistics)

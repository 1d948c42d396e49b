"""The page on which algorithms race: what is in it, and that its arithmetic is lectopt's, in a real browser."""

import html
import json
import os
import re
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lectopt as lo

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
STEPS = 40
LOSSES = {
    "ravine": lambda w: w[0] ** 2 / 2 + 50 * w[1] ** 2,
    "saddle": lambda w: 2.5 * w[0] ** 2 - w[1] ** 2 / 10 + w[1] ** 4 / 20 + 1 / 20,
    "cliff": lambda w: 0.3 * jnp.sqrt(1 + (w[0] + 3) ** 2) - 0.3 + 4 * jax.nn.sigmoid(20 * (w[0] - 1)) + w[1] ** 2 / 2,
    "noisy bowl": lambda w: (w[0] ** 2 + w[1] ** 2) / 2,
}
ALGORITHMS = {
    "SGD": lambda rate, alpha, rho: lo.sgd(rate),
    "decreasing rate": lambda rate, alpha, rho: lo.sgd(lo.linear_decay(rate, STEPS)),
    "momentum": lambda rate, alpha, rho: lo.momentum(rate, alpha),
    "Nesterov": lambda rate, alpha, rho: lo.nesterov(rate, alpha),
    "AdaGrad": lambda rate, alpha, rho: lo.adagrad(rate),
    "RMSProp": lambda rate, alpha, rho: lo.rmsprop(rate, rho),
    "RMSProp, Nesterov": lambda rate, alpha, rho: lo.rmsprop_nesterov(rate, rho, alpha),
    "Adam": lambda rate, alpha, rho: lo.adam(rate, alpha, 1 - (1 - rho) / 100),
}
RACES = [
    {"landscape": name, "start": start, "factor": 0.5, "momentum": 0.8, "decay": 0.7, "steps": STEPS, "seed": 3}
    for name, start in zip(LOSSES, [(-3.0, 0.4), (-1.2, 0.05), (1.1, 1.0), (2.0, -1.0)], strict=True)
]


def test_the_page_loads_nothing_and_has_its_settings():
    page = lo.racer("cliff", start=(1, 2), momentum=0.5).page
    assert not re.search(r"https?:|src=|@import|fetch\(|<link", page)
    settings = json.loads(re.search(r'id="settings">(.*?)</script>', page)[1])
    assert settings == {"landscape": "cliff", "factor": 1.0, "momentum": 0.5, "decay": 0.9, "start": [1.0, 2.0]}


def test_it_shows_itself_and_is_saved(tmp_path):
    racer = lo.racer(height=500)
    frame = racer._repr_html_()
    assert "height: 500px" in frame
    assert html.unescape(re.search(r'srcdoc="([^"]*)"', frame)[1]) == racer.page
    racer.save(tmp_path / "racer.html")
    assert (tmp_path / "racer.html").read_text(encoding="utf-8") == racer.page
    assert len(repr(racer)) < 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"landscape": "hill"}, "landscape must be one of 'ravine', 'saddle', 'cliff', 'noisy bowl'; got 'hill'"),
        ({"momentum": 1.0}, "momentum must be in"),
        ({"factor": 0}, "factor must be in"),
        ({"start": (1, 2, 3)}, "start must be two finite numbers; got"),
        ({"height": 0}, "height must be at least 1; got 0"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        lo.racer(**arguments)


def in_the_browser(folder):
    """What the page computes: for each race, {algorithm: {rate, path, losses}}, and the noise of each."""
    script = f"""<script>
        const races = {json.dumps(RACES)};
        document.body.textContent = JSON.stringify({{
            races: races.map(race), noise: races.map(({{seed, steps}}) => normals(seed, 2 * steps)),
        }});
    </script>"""
    page = folder / "page.html"
    page.write_text(lo.racer().page.replace("</body>", script + "</body>"), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    found = subprocess.run(
        [BROWSER, *options, page.as_uri()], capture_output=True, text=True, check=True, timeout=120, env=os.environ
    )
    return json.loads(html.unescape(re.search(r"<body>(.*)</body>", found.stdout, re.DOTALL)[1]))


def path_of(optimizer, loss, start, kicks):
    """lectopt's own, from the start on: float[1 + steps, 2]."""

    def step(carry, kick):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params) + kick, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), lo.eval_params(state, params)

    start = jnp.array(start, float)
    return np.vstack([start, jax.jit(jax.lax.scan, static_argnums=0)(step, (start, optimizer.init(start)), kicks)[1]])


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
def test_its_arithmetic_is_ours(tmp_path, x64):
    found = in_the_browser(tmp_path)
    for race, drawn, runs in zip(RACES, found["noise"], found["races"], strict=True):
        noise = np.array(drawn).reshape(STEPS, 2)
        assert abs(noise.mean()) < 0.4
        assert 0.7 < noise.std() < 1.3
        loss, kicks = LOSSES[race["landscape"]], noise * (race["landscape"] == "noisy bowl")
        assert list(runs) == list(ALGORITHMS)
        for name, make in ALGORITHMS.items():
            optimizer = make(runs[name]["rate"], race["momentum"], race["decay"])
            wanted = path_of(optimizer, loss, race["start"], kicks)
            np.testing.assert_allclose(runs[name]["path"], wanted, rtol=1e-10, atol=1e-11, err_msg=f"{race} {name}")
            losses = jax.vmap(loss)(jnp.array(runs[name]["path"]))
            np.testing.assert_allclose(runs[name]["losses"], losses, rtol=1e-10, atol=1e-12)

"""What is compiled for a training: kept as long as its task and its optimizer are there, and no longer."""

import contextlib
import dataclasses
import functools
import inspect
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lectopt import meshes
from lectopt._types import Array
from lectopt.carry import Carry, Data, Learner, Plan
from lectopt.loop import Loop
from lectopt.models import Params
from lectopt.origin import Origin
from lectopt.recipes import OptimizerRecipe
from lectopt.setup import Setup, begin
from lectopt.training import make_loop, to_evaluate


class Programs:
    """The programs of trainings with equal plans and recipes, which they hold only while they are called."""

    def __init__(self) -> None:
        self._now = threading.local()
        self._start = jax.jit(functools.partial(_start, self._now))
        self._advance = jax.jit(functools.partial(_advance, self._now), donate_argnums=2)
        self._evaluated = jax.jit(to_evaluate)

    def start(self, setup: Setup) -> Carry:
        """The carry before the first step."""
        with self._called_for(setup):
            return self._start(setup.numbers, setup.data, setup.origin)

    def advance(self, setup: Setup, carry: Carry, stop: Any, last: Any) -> Carry:
        """The carry, which is used up, after step `stop`; with step `last` the training ends."""
        with self._called_for(setup):
            return self._advance(setup.numbers, setup.data, carry, stop, last)

    def text(self, setup: Setup, carry: Carry) -> str:
        """The lowered program, equal between processes."""
        with self._called_for(setup):
            return self._advance.lower(setup.numbers, setup.data, carry, jnp.int32(0), jnp.int32(0)).as_text()

    def evaluated(self, learner: Learner) -> Params:
        """The parameters w."""
        return self._evaluated(learner)

    @contextlib.contextmanager
    def _called_for(self, setup: Setup) -> Iterator[None]:
        self._now.static = setup.plan, setup.recipe
        try:
            yield
        finally:
            del self._now.static


def programs_of(plan: Plan, recipe: OptimizerRecipe) -> Programs:
    """The programs for this plan and recipe: those of an equal one, or new ones."""
    kept: list[tuple] = []

    def forget(_: Any) -> None:
        _programs.pop(kept[0], None)

    mark = _mark(plan, recipe, forget)
    if mark not in _programs:
        kept.append(mark)
        _programs[mark] = Programs()
    return _programs[mark]


_programs: dict[tuple, Programs] = {}


def _mark(plan: Plan, recipe: OptimizerRecipe, forget: Callable[[Any], None]) -> tuple:
    """What equal plans and recipes have in common, which keeps no task, optimizer or function alive."""
    fields = {field.name: getattr(plan, field.name) for field in dataclasses.fields(plan)}
    weakly = [fields.pop("task"), fields.pop("augment")]
    one = recipe.optimizer
    weakly += [one.init, one.update] if isinstance(one, optax.GradientTransformation) else [one]
    weakly += [value for _, value in recipe.fixed]
    names = [name for name, _ in recipe.fixed]
    return (*fields.values(), *names, *(_weak(value, forget) for value in weakly))


def _weak(value: Any, forget: Callable[[Any], None]) -> Any:
    """A reference that equals one to an equal value; the value itself, where there are none to it."""
    try:
        return (weakref.WeakMethod if inspect.ismethod(value) else weakref.ref)(value, forget)
    except TypeError:  # a number, a text, an object with slots
        return value


def _start(now: Any, numbers: dict[str, Any], data: Data, origin: Origin) -> Carry:
    plan, recipe = now.static
    setup = Setup(plan, recipe, numbers, data, origin)
    carry = make_loop(setup).start(begin(setup), known=origin.known, stretches=True)
    # Copies, since the carry is donated: what it starts from belongs to the caller.
    return _arranged(plan, jax.tree.map(jnp.copy, carry))


def _advance(now: Any, numbers: dict[str, Any], data: Data, carry: Carry, stop: Array, last: Array) -> Carry:
    plan, recipe = now.static
    return _arranged(plan, Loop(plan, recipe.make(numbers), data).run_until(carry, stop, last))


def _arranged(plan: Plan, carry: Carry) -> Carry:
    """The carry where it is to lie on the mesh, so that it comes out of a chunk as it went in."""
    if plan.mesh is None:
        return carry
    return meshes.arranged(plan.mesh, plan.task.adapter.specs(), carry.learner.params, carry)

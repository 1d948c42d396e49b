"""A function that is traced once: what it closes over is an argument, its text is stable, its compiling is measured."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lectopt.engine.tracing import TracedProgram, compiled

TABLE = np.arange(2000, dtype=np.float32)
OTHERS = {"by": jnp.float32(3)}, jnp.ones(3)


def make(table=TABLE, factor=2.0, name="lookup"):
    table = jnp.asarray(table)

    def function(scale, unused, place):
        return {"value": factor * scale["by"] * table[place]}

    return TracedProgram(function, *OTHERS, jnp.int32(0), name=name)


def arguments(program, place=7):
    return *OTHERS, (program.closed_over, jnp.int32(place))


def text(program):
    return program.lower(*arguments(program)).as_text()


def test_it_computes_what_the_function_does():
    program = make()
    assert float(program(*arguments(program))["value"]) == 42
    call = compiled(program.lower(*arguments(program))).call
    assert float(call(*arguments(program, 8))["value"]) == 48
    assert program.returned["value"].shape == ()


def test_what_is_closed_over_is_an_argument():
    program, other = make(), make(TABLE + 1)
    assert text(program) == text(other)
    assert len(text(program)) < 4000
    call = compiled(program.lower(*arguments(program))).call
    assert float(call(*arguments(other))["value"]) == 48  # of the other's table
    assert text(make(factor=3.0)) != text(program)


def test_the_text_bears_the_name_and_says_where_outputs_go():
    """Directories are told apart by it: neither may change between versions."""
    assert "module @jit__lane" in text(make(name="_lane"))
    assert """jax.result_info = "result['value']\"""" in text(make())


@pytest.mark.parametrize(("number", "read"), [(0, True), (1, False), (2, True)])
def test_which_arguments_are_read(number, read):
    assert make().reads(number) == read


def test_an_argument_that_is_handed_on_is_read():
    program = TracedProgram(lambda a, b: (b, jnp.float32(0)), jnp.float32(0), jnp.float32(0), name="hand_on")
    assert (program.reads(0), program.reads(1)) == (False, True)


@pytest.mark.parametrize("used", [lambda product: product, jnp.sum], ids=["output", "temporary"])
def test_a_compiled_program_knows_its_costs(used):
    matrix = jnp.zeros((512, 512))

    def power(matrix):
        return used(jax.lax.fori_loop(0, 3, lambda _, product: jnp.tanh(product @ product), matrix))

    program = TracedProgram(power, matrix, name="power")
    found = compiled(program.lower((program.closed_over, matrix)))
    assert found.memory >= matrix.nbytes
    assert 0 < found.seconds < 60


def test_it_stands_within_another_program():
    def outer(table, places):
        program = TracedProgram(lambda place: table[place] ** 2, jnp.int32(0), name="inner")
        return jax.vmap(lambda place: program((program.closed_over, place)))(places)

    assert jax.jit(outer)(jnp.arange(5.0), jnp.array([1, 3])).tolist() == [1, 9]

"""What compiles, counted."""

import functools

import jax


@functools.cache
def compilations():
    """A list that grows by one whenever something compiles."""
    log = []

    def listen(event, *_, **__):
        if event == "/jax/core/compile/backend_compile_duration":
            log.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    return log


@functools.cache
def traces_and_compilations():
    """A list of the events of JAX when it traces, lowers or compiles something."""
    log = []

    def listen(event, *_, **__):
        if event.startswith("/jax/core/compile/"):
            log.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    return log

"""Rules by which the paths of one model become those of another."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

ModelPath: TypeAlias = tuple[str, ...]
Rules: TypeAlias = Mapping[str, str | None] | Callable[[str], str | None]


class Rule(NamedTuple):
    """The leading part of a path, and what takes its place."""

    old: ModelPath  # "*" stands for any one step
    new: ModelPath | None  # each "*" for what the one of `old` stood for; None leaves the path out

    def applies(self, path: ModelPath) -> bool:
        """Returns whether the path begins with the old part."""
        return len(path) >= len(self.old) and all(o in ("*", p) for o, p in zip(self.old, path, strict=False))

    def apply(self, path: ModelPath) -> ModelPath | None:
        """Returns the path with the new part."""
        if self.new is None:
            return None
        matched = iter([step for old, step in zip(self.old, path, strict=False) if old == "*"])
        return tuple(next(matched) if step == "*" else step for step in self.new) + path[len(self.old) :]


def rename_all(paths: list[ModelPath], rules: Rules | None) -> dict[ModelPath, ModelPath]:
    """Returns {new path: path} of all that is not left out.

    Raises:
        TypeError, ValueError: if rules are not as `transfer` describes them, one of them applies to no path, or two
            paths become one.
    """
    if rules is None:
        return {path: path for path in paths}
    renamed: dict[ModelPath, ModelPath] = {}
    rename = _by_function(rules) if callable(rules) else _by_rules(paths, _parse(rules))
    for path in paths:
        new = rename(path)
        if new in renamed:
            raise ValueError(
                f"rename must give different paths; {'/'.join(renamed[new])} and {'/'.join(path)} both become "
                f"{'/'.join(new)}"
            )
        if new is not None:
            renamed[new] = path
    return renamed


def as_path(text: str) -> ModelPath:
    """Splits a path that is written with slashes, or with dots as in PyTorch."""
    return tuple(step for step in re.split(r"[/.]", text) if step)


def _by_function(function: Callable[[str], str | None]) -> Callable[[ModelPath], ModelPath | None]:
    def rename(path: ModelPath) -> ModelPath | None:
        new = function("/".join(path))
        if not (new is None or isinstance(new, str)):
            raise TypeError(f"rename must return a path, or None; for {'/'.join(path)} it returned {new!r}")
        return None if new is None else as_path(new)

    return rename


def _by_rules(paths: list[ModelPath], rules: list[Rule]) -> Callable[[ModelPath], ModelPath | None]:
    for rule in rules:
        if not any(rule.applies(path) for path in paths):
            known = ", ".join(map("/".join, paths[:8]))
            raise ValueError(
                f"rename must hold beginnings of paths of source, {known}; none begins with {'/'.join(rule.old)!r}"
            )

    def rename(path: ModelPath) -> ModelPath | None:
        rule = next((rule for rule in rules if rule.applies(path)), None)
        return path if rule is None else rule.apply(path)

    return rename


def _parse(rules: Mapping[str, str | None]) -> list[Rule]:
    """Returns the rules, the most specific ones first."""
    if not isinstance(rules, Mapping):
        raise TypeError(
            f"rename must be a dictionary {{old: new}}, or a function of a path; got {type(rules).__name__}"
        )
    parsed = []
    for old, new in rules.items():
        if not isinstance(old, str) or not (new is None or isinstance(new, str)):
            raise TypeError(f"rename must hold paths, or None to leave a part out; got {old!r}: {new!r}")
        rule = Rule(as_path(old), None if new is None else as_path(new))
        if rule.new is not None and rule.new.count("*") != rule.old.count("*"):
            raise ValueError(f"rename must have as many * in the new path as in the old one; got {old!r}: {new!r}")
        parsed.append(rule)
    return sorted(parsed, key=lambda rule: (-len(rule.old), rule.old.count("*")))

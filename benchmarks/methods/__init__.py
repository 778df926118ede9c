"""Ways to choose the next configuration: this project's, and other libraries behind the same protocol.

A method is named `name` or `name:key=value,key=value`; the settings are keywords of its constructor, for
`bayesopt` those of `bayesopt.Optimizer`. Nothing here imports torch before a method needs it.

To add one, write a class with `ask` and `tell` (see `protocol.Method`) in a module of this folder and name
it in `METHODS`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Any

from benchmarks.methods.protocol import Method, Space

OURS = "bayesopt"


@dataclass(frozen=True)
class Entry:
    """Where a method is, and what it needs.

    Attributes:
        target: `module:class` in this folder; settings: of its constructor, always.
        package: the module that must be there; install: what pip calls it.
        sequential: whether it evaluates one configuration at a time only.
    """

    target: str
    package: str | None = None
    install: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    sequential: bool = False

    @property
    def installed(self) -> bool:
        """Whether its package is there."""
        return self.package is None or find_spec(self.package) is not None

    @property
    def command(self) -> str:
        """What installs it."""
        return f"python -m pip install {self.install or self.package}"

    def load(self) -> Callable[..., Any]:
        """Its constructor: of a space, a seed (for ours, seeds), a budget and settings."""
        module, name = self.target.split(":")
        return partial(getattr(import_module(f"{__name__}.{module}"), name), **self.settings)


METHODS: dict[str, Entry] = {
    OURS: Entry("ours:Ours"),
    "random": Entry("random:Random"),
    "optuna-tpe": Entry("optuna:Optuna", "optuna", settings={"sampler": "TPESampler"}),
    "optuna-gp": Entry("optuna:Optuna", "optuna", settings={"sampler": "GPSampler"}),
    "botorch": Entry("botorch:BoTorch", "botorch"),
    "ax": Entry("ax:Ax", "ax", "ax-platform"),
    "cma": Entry("cma:CMA", "cma"),
    "cma-lq": Entry("cma:LQ", "cma", sequential=True),
    "hyperopt": Entry("hyperopt:Hyperopt", "hyperopt"),
    "smac": Entry("smac:SMAC", "smac"),
    "hebo": Entry("hebo:HEBO", "hebo", "hebo  # in an environment of its own, see benchmarks/README.md"),
    "vizier": Entry("vizier:Vizier", "vizier", "google-vizier  # likewise"),
}


@dataclass(frozen=True)
class Chosen:
    """A method by its full name, with settings, and the interpreter it lives in if it is not this one."""

    label: str
    name: str
    settings: Mapping[str, Any]
    python: str | None = None

    @property
    def ours(self) -> bool:
        """Whether it runs in lockstep."""
        return self.name == OURS

    @property
    def entry(self) -> Entry:
        """Where it is."""
        return METHODS[self.name]

    @property
    def lacking(self) -> str | None:
        """The command that installs it, if it is not installed."""
        return None if self.python or self.entry.installed else self.entry.command

    def build(self, space: Space, seed: int, budget: int) -> Method:
        """One study of a peer."""
        if self.python:
            from benchmarks.methods.remote import Remote

            return Remote(self.python, self.name, space, seed, budget, **self.settings)
        return self.entry.load()(space, seed, budget, **self.settings)

    def build_together(self, space: Space, seeds: Sequence[int], budget: int) -> Any:
        """Our studies, one for each seed."""
        return self.entry.load()(space, seeds, budget, **self.settings)

    @property
    def version(self) -> str | None:
        """Of its package, if it is here."""
        if self.python or self.entry.package is None:
            return None
        try:
            return metadata.version((self.entry.install or self.entry.package).split()[0])
        except metadata.PackageNotFoundError:
            return None


def chosen(label: str, pythons: Mapping[str, str] | None = None) -> Chosen:
    """A method by its full name.

    Raises:
        ValueError: there is none of that name, or a setting is not `key=value`.

    >>> chosen("bayesopt:batch=ucb_pe,max_pending_age=3").settings
    {'batch': 'ucb_pe', 'max_pending_age': 3}
    """
    name, _, tail = label.partition(":")
    if name not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {name!r}")
    settings = {}
    for part in filter(None, tail.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"settings are written name:key=value,key=value, got {label!r}")
        settings[key] = _value(value)
    return Chosen(label, name, settings, (pythons or {}).get(name))


def _value(text: str) -> Any:
    """A number, true, false or null; anything else is a string."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text

"""Trials as plain rows, in one form for every command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bayesopt.cli.command import in_full, say, shown

if TYPE_CHECKING:
    from bayesopt.storage.study import Study
    from bayesopt.trials import Config, Trial

Row = dict[str, Any]

#: The keys of a row before `config`.
FIELDS = ("number", "state", "value", "std", "seconds", "error")


def row(trial: Trial) -> Row:
    """A trial that has ended: `FIELDS` and `config`; the state is complete, failed or pruned."""
    return {
        "number": trial.number, "state": trial.state, "value": trial.value, "std": trial.std,
        "seconds": trial.seconds, "error": trial.error, "config": trial.config,
    }  # fmt: skip


def running_row(number: int, config: Config) -> Row:
    """One that has not."""
    return {**dict.fromkeys(FIELDS), "number": number, "state": "running", "config": config}


def rows(study: Study) -> list[Row]:
    """All trials of a study, by number."""
    found = [row(trial) for trial in study.trials]
    found += [running_row(number, config) for number, config in study.running.items()]
    return sorted(found, key=lambda each: each["number"])


def say_trial(trial: Trial) -> None:
    """Its value and its configuration, numbers with all of their digits."""
    say(f"trial {trial.number}: {trial.value}")
    for name, value in trial.config.items():
        say(f"  {shown(name)} = {in_full(value)}")

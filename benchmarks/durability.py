"""`durability`: studies on a storage while their workers are killed, and while many of them share one.

Three measurements. Kills: workers of one study are killed with SIGKILL at random moments, each at once
replaced by the same command; in the end every trial must be there once. Crowd: many processes share a study
of a finite space, in which two that did not know of each other would soon propose the same. Overhead: what an
ask and a tell of a single process cost beyond the bare engine, as the history grows. On SQLite, and on
PostgreSQL where BAYESOPT_TEST_POSTGRESQL names one (`.ci/postgresql python -m benchmarks durability`).
"""

import argparse
import json
import multiprocessing
import os
import random
import statistics
import tempfile
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from bayesopt import Float, Int, Optimizer, Study, minimize
from bayesopt.study import run as evaluate
from benchmarks.report import Report, Table, progress

DESCRIPTION = "studies on a storage: kill -9 of workers, many processes, overhead"

POSTGRESQL = "BAYESOPT_TEST_POSTGRESQL"

Config = dict[str, Any]

_PATIENCE = 600.0  # seconds for a crowd to assemble

#: Starts processes quickly: they are forked from one that has everything loaded and no threads.
_PROCESSES = multiprocessing.get_context("forkserver")
_LOADED = ["bayesopt.storage.study", "bayesopt.study", "psycopg", "sqlite3", "optuna"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kills", type=int, default=200, help="workers killed (default: %(default)s)")
    parser.add_argument(
        "--trials", type=int, default=500, help="of the run with kills (default: %(default)s)"
    )
    parser.add_argument("--processes", type=int, default=32, help="of the crowd (default: %(default)s)")
    parser.add_argument("--parts", nargs="+", default=["kills", "crowd", "overhead"], help="what to measure")


def _process(target: Callable[..., None], *arguments: object) -> BaseProcess:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a module to load that is not installed
        _PROCESSES.set_forkserver_preload(_LOADED)
    process = _PROCESSES.Process(target=target, args=arguments)
    process.start()
    return process


@contextmanager
def databases(wanted: str | None = None) -> Iterator[dict[str, str]]:
    """URLs of databases to measure on, by name."""
    with tempfile.TemporaryDirectory() as folder:
        urls = {"SQLite": f"sqlite:///{folder}/study.db"}
        if POSTGRESQL in os.environ:
            urls["PostgreSQL"] = os.environ[POSTGRESQL]
        yield urls


# ------------------------------------------------------------------------------------------------------ kills


@dataclass(frozen=True)
class Survival:
    """What is left after a run with kills.

    Attributes:
        kills: how many workers were killed.
        results: trials in the end; lost: places in the order of asking without a result.
        doubled: places with more than one result; again: evaluations begun after the result was stored.
        evaluations: how many were begun; retried: how many trials lost a worker and were tried again.
        stuck: trials that are still running; failed: results that are failures.
        seconds: of the whole run.
    """

    kills: int
    results: int
    lost: int
    doubled: int
    again: int
    evaluations: int
    retried: int
    stuck: int
    failed: int
    seconds: float


def bowl(config: Config) -> float:
    return (config["x"] - 0.3) ** 2 + (config["y"] + 0.2) ** 2


def _logged(path: str, seconds: float, config: Config, trial: Any) -> float:
    """The objective of the workers that are killed: says when it begins, and takes its time."""
    with open(path, "a", encoding="utf-8") as log:  # one short line, at once
        log.write(json.dumps([time.time(), config]) + "\n")
    trial.report(1.0, 0)
    time.sleep(seconds)
    return bowl(config)


def _mortal(url: str, name: str, trials: int, path: str, seconds: float, method: str) -> None:
    space = {"x": Float(-1.0, 1.0), "y": Float(-1.0, 1.0)}
    objective = partial(_logged, path, seconds)
    minimize(objective, space, trials, storage=url, name=name, method=method)


def survive(
    url: str,
    trials: int,
    kills: int,
    workers: int = 4,
    seconds: float = 0.03,
    method: str = "random",
    seed: int = 0,
    patience: float = 1800.0,
) -> Survival:
    """Kill workers at random moments of a run, and look at what is left."""
    rng, start, name = random.Random(seed), time.monotonic(), uuid.uuid4().hex
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "evaluations")
        path.touch()
        command = partial(_process, _mortal, url, name, trials, str(path), seconds, method)
        running = [command() for _ in range(workers)]
        killed = 0
        try:
            while killed < kills:
                goal = 0.95 * trials * killed / kills
                _wait(partial(_has_lines, path, goal), start + patience)
                time.sleep(rng.uniform(0.0, 2 * seconds))
                victim = rng.randrange(workers)
                if running[victim].is_alive():
                    running[victim].kill()
                    killed += 1
                running[victim].join()
                running[victim] = command()
            _wait(lambda: not any(each.is_alive() for each in running), start + patience)
        finally:
            for each in running:
                each.kill()
                each.join()
        return _survival(url, name, path, trials, killed, time.monotonic() - start)


def _wait(condition: Callable[[], bool], deadline: float) -> None:
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the study is stuck")
        time.sleep(0.005)


def _has_lines(path: Path, count: float) -> bool:
    return path.read_bytes().count(b"\n") >= count


def _survival(url: str, name: str, path: Path, trials: int, kills: int, seconds: float) -> Survival:
    from bayesopt.storage.ledger import ABANDONED
    from bayesopt.storage.replay import ASKED_AT

    stored = _trials(url, name)
    results = [t for t in stored if t.state.is_finished() and ABANDONED not in t.system_attrs]
    places = Counter(t.system_attrs[ASKED_AT] for t in results)
    ended = {json.dumps(t.params): t.datetime_complete.timestamp() for t in results if t.datetime_complete}
    begun = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return Survival(
        kills=kills,
        results=len(results),
        lost=len(set(range(trials)) - places.keys()),
        doubled=sum(count > 1 for count in places.values()),
        again=sum(at > ended.get(json.dumps(config), at) for at, config in begun),
        evaluations=len(begun),
        retried=sum(ABANDONED in t.system_attrs for t in stored),
        stuck=sum(not t.state.is_finished() for t in stored),
        failed=sum(t.state.name == "FAIL" for t in results),
        seconds=seconds,
    )


def _storage(url: str) -> Any:
    import optuna

    return optuna.storages.RDBStorage(url)


def _trials(url: str, name: str) -> list[Any]:
    """What Optuna finds in the storage."""
    import optuna

    storage = _storage(url)
    try:
        return optuna.load_study(study_name=name, storage=storage).trials
    finally:
        storage.remove_session()
        storage.engine.dispose()


# ------------------------------------------------------------------------------------------------------ crowd


@dataclass(frozen=True)
class Throughput:
    """A crowd at work: trials, how many were proposed twice, seconds until the last one ended."""

    trials: int
    duplicates: int
    seconds: float
    processes: int
    objective: float

    @property
    def overhead(self) -> float:
        """Seconds that a process spends on a trial besides its evaluation."""
        return self.seconds * self.processes / self.trials - self.objective


SIDE = 40  # of the square of configurations that the crowd searches


def _sleepy(seconds: float, a: int, b: int) -> float:
    time.sleep(seconds)
    return float((a - 11) ** 2 + (b - 29) ** 2)


def _ours(url: str, name: str, trials: int, seconds: float, method: str, gate: Any) -> None:
    def objective(config: Config) -> float:
        return _sleepy(seconds, config["a"], config["b"])

    space = {"a": Int(0, SIDE - 1), "b": Int(0, SIDE - 1)}
    with Study(space, storage=url, name=name, method=method) as study:
        gate.wait(_PATIENCE)
        evaluate(objective, study, trials)


def _optunas(url: str, name: str, trials: int, seconds: float, method: str, gate: Any) -> None:
    import optuna
    from optuna.study import MaxTrialsCallback

    def objective(trial: optuna.Trial) -> float:
        return _sleepy(seconds, trial.suggest_int("a", 0, SIDE - 1), trial.suggest_int("b", 0, SIDE - 1))

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.RandomSampler() if method == "random" else None
    study = optuna.create_study(storage=url, study_name=name, load_if_exists=True, sampler=sampler)
    gate.wait(_PATIENCE)
    study.optimize(objective, callbacks=[MaxTrialsCallback(trials, states=None)])


WHO: dict[str, tuple[Callable[..., None], str]] = {
    "bayesopt, random": (_ours, "random"),
    "bayesopt": (_ours, "auto"),
    "Optuna, random": (_optunas, "random"),
    "Optuna": (_optunas, "auto"),
}


def crowd(url: str, who: str, processes: int, trials: int, seconds: float = 0.05) -> Throughput:
    """Many processes on one study.

    Raises:
        RuntimeError: a process failed.
    """
    target, method = WHO[who]
    _storage(url).engine.dispose()  # its tables, which Optuna cannot create in several processes at once
    name, gate = uuid.uuid4().hex, _PROCESSES.Barrier(processes + 1)
    everybody = [_process(target, url, name, trials, seconds, method, gate) for _ in range(processes)]
    gate.wait(_PATIENCE)
    start = time.monotonic()
    for each in everybody:
        each.join()
    elapsed = time.monotonic() - start
    if any(each.exitcode for each in everybody):
        raise RuntimeError(f"{sum(bool(each.exitcode) for each in everybody)} processes failed")
    stored = _trials(url, name)
    tried = Counter(json.dumps(trial.params, sort_keys=True) for trial in stored)
    return Throughput(len(stored), sum(tried.values()) - len(tried), elapsed, processes, seconds)


# --------------------------------------------------------------------------------------------------- overhead

BLOCK = 100


def overhead(url: str, trials: int, who: str) -> list[float]:
    """Milliseconds of an ask and a tell beyond those of the bare engine, medians of blocks of 100 trials."""
    space = {f"x{i}": Float(-1.0, 1.0) for i in range(6)}
    ask_and_tell = _our_step(url, space) if who == "bayesopt" else _optuna_step(url, space)
    bare = Optimizer(space, method="random")
    blocks = []
    for _ in range(trials // BLOCK):
        seconds = []
        for _ in range(BLOCK):
            start = time.perf_counter()
            ask_and_tell()
            middle = time.perf_counter()
            config = bare.ask()
            bare.tell(config, sum(config.values()))
            seconds.append(middle - start - (time.perf_counter() - middle))
        blocks.append(1e3 * statistics.median(seconds))
    return blocks


def _our_step(url: str, space: dict[str, Float]) -> Callable[[], None]:
    study = Study(space, storage=url, name=uuid.uuid4().hex, method="random")

    def step() -> None:
        trial = study.ask()
        study.tell(trial, sum(trial.config.values()))

    return step


def _optuna_step(url: str, space: dict[str, Float]) -> Callable[[], None]:
    import optuna

    study = optuna.create_study(
        storage=url, study_name=uuid.uuid4().hex, sampler=optuna.samplers.RandomSampler()
    )

    def step() -> None:
        trial = study.ask()
        study.tell(trial, sum(trial.suggest_float(name, -1.0, 1.0) for name in space))

    return step


# ---------------------------------------------------------------------------------------------------- results


def run(args: argparse.Namespace) -> Report:
    kills, trials, processes, each = args.kills, args.trials, args.processes, 10
    history = 10 * BLOCK
    if args.quick:
        kills, trials, processes, each, history = 3, 30, 3, 8, BLOCK
    results: dict[str, Any] = {part: {} for part in args.parts}
    with databases() as urls:
        for database, url in urls.items():
            if "kills" in args.parts:
                progress(f"durability: {kills} kills in {trials} trials on {database}")
                results["kills"][database] = asdict(survive(url, trials, kills))
            if "crowd" in args.parts:
                for who in WHO if database == "PostgreSQL" else ():
                    progress(f"durability: {processes} processes of {who} on {database}")
                    found = crowd(url, who, processes, each * processes)
                    results["crowd"][who] = {**asdict(found), "overhead": found.overhead}
            if "overhead" in args.parts:
                for who in ("bayesopt", "Optuna"):
                    progress(f"durability: overhead of {who} on {database}")
                    results["overhead"][f"{who}, {database}"] = overhead(url, history, who)
    tables = [table(results[part]) for part, table in _TABLES.items() if results.get(part)]
    return Report("Studies that last", tables, results, {"processes": processes})


def _kills_table(found: dict[str, dict[str, Any]]) -> Table:
    header = ["", *found]
    rows = [[name, *(each[name] for each in found.values())] for name in Survival.__dataclass_fields__]
    return Table(
        header, rows, "Workers of one study killed with SIGKILL at random moments and started again."
    )


def _crowd_table(found: dict[str, dict[str, Any]]) -> Table:
    rows = [
        [who, each["trials"], each["duplicates"], each["trials"] / each["seconds"], 1e3 * each["overhead"]]
        for who, each in found.items()
    ]
    first = next(iter(found.values()))
    caption = (
        f"{first['processes']} processes share one study on PostgreSQL; {SIDE}x{SIDE} configurations, "
        f"{1e3 * first['objective']:.0f} ms each. Overhead: time of a process for a trial, less the "
        "evaluation."
    )
    return Table(["", "trials", "proposed twice", "trials a second", "overhead, ms"], rows, caption)


def _overhead_table(found: dict[str, list[float]]) -> Table:
    columns = range(len(next(iter(found.values()))))
    rows = [[who, *(f"{each[k]:.1f}" for k in columns)] for who, each in found.items()]
    header = ["trials", *(f"{(k + 1) * BLOCK}" for k in columns)]
    caption = (
        "One process, random proposals, six parameters: milliseconds of one ask and one tell beyond the bare "
        "engine's, medians of the last 100 trials."
    )
    return Table(header, rows, caption)


_TABLES: dict[str, Callable[[Any], Table]] = {
    "kills": _kills_table,
    "crowd": _crowd_table,
    "overhead": _overhead_table,
}

"""Many workers: who evaluates what and when, and everything that can go wrong with an evaluation."""

import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from bayesopt import Categorical, Float, maximize, minimize
from bayesopt.workers import pool
from bayesopt.workers import process as one_process
from bayesopt.workers.pool import WorkerProcesses
from bayesopt.workers.process import WorkerStartError
from tests.processes import alive, wait_until

# Worker processes import their objective: its module must be on the path, which they inherit.
sys.path.append(str(Path(__file__).parent))
import process_objectives as objectives

ROOT = Path(__file__).parents[1]
SPACE = {"x": Float(-1.0, 1.0)}


@pytest.fixture
def two_threads():
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    environment = set(os.environ)
    yield
    assert multiprocessing.active_children() == []
    assert set(os.environ) == environment


# ------------------------------------------------------------------------------------ worker processes

ERRORS = {
    "raises": ("KeyError: 'learning_rate'", "Traceback", "process_objectives.py"),
    "raises something unpicklable": ("cuda went away", "Traceback"),
    "exits": ("SystemExit: no data",),
    "interrupts itself": ("KeyboardInterrupt",),
    "returns text": ("a value must be a number, or None for a failed evaluation, got '0.5'",),
    "returns something unpicklable": ("Can't pickle",),
    "returns what cannot be unpickled": ("no module named secret",),
    "ends the process": ("worker process died (exit code 0)",),
    "is killed": (
        "worker process died (exit code -9: killed by SIGKILL, often the system being out of memory)",
    ),
    "crashes": ("worker process died (exit code -6: killed by SIGABRT)",),
    "closes all files": ("worker process died (it closed its connection)",),
    "hangs": ("evaluation exceeded timeout of 2 s and was stopped",),
    "ignores signals": ("evaluation exceeded timeout of 2 s and was stopped",),
}


def test_whatever_happens_to_an_evaluation_the_others_go_on(caplog, capfd):
    space = {"what": Categorical(list(objectives.MISHAPS))}  # finite: each is tried exactly once
    result = minimize(objectives.mishap, space, trials=len(objectives.MISHAPS), workers=2, timeout=2)
    trials = {trial.config["what"]: trial for trial in result.trials}
    assert trials.keys() == objectives.MISHAPS.keys() and result.best_value == 1.5
    for what, trial in trials.items():
        assert trial.value == (1.5 if what == "value" else None)
        assert (trial.error is None) == (what not in ERRORS)
        assert all(part in trial.error for part in ERRORS.get(what, ()))
        assert trial.seconds < 10 and (trial.seconds >= 2 or what not in ("hangs", "ignores signals"))
    assert len([r for r in caplog.records if "failed" in r.message]) == len(ERRORS)
    assert all("\n" not in record.message for record in caplog.records)
    assert capfd.readouterr() == ("", "")


def test_one_process_evaluates_as_this_one_does():
    objective = partial(objectives.scaled_bowl, scale=2.0)
    here = maximize(objective, SPACE, trials=8)
    there = maximize(objective, SPACE, trials=8, timeout=60)
    assert [(t.config, t.value) for t in here.trials] == [(t.config, t.value) for t in there.trials]
    assert there.optimizer.pending == []


def test_processes_are_used_again_and_no_more_than_needed(tmp_path):
    result = minimize(objectives.pid, SPACE, trials=6, workers=2)
    assert 1 <= len(set(result.values)) <= 2 and os.getpid() not in result.values
    assert len(set(minimize(objectives.pid, SPACE, trials=1, workers=50).values)) == 1
    assert not any(alive(int(pid)) for pid in result.values)


def test_a_process_imports_nothing_that_the_objective_does_not():
    assert minimize(objectives.torch_is_loaded, SPACE, trials=1, timeout=60).values == [0.0]


def test_a_process_looks_to_the_objective_as_this_one_does(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    method = multiprocessing.get_start_method(allow_none=True)
    space = {"home": Categorical([f"train.py {method}"])}
    assert minimize(objectives.is_at_home, space, trials=1, timeout=60).values == [1.0]


def test_processes_share_the_cores_unless_the_user_has_other_plans(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    space = {"name": Categorical(["OMP_NUM_THREADS", "MKL_NUM_THREADS"])}
    result = minimize(objectives.variable, space, trials=2, workers=2)
    values = {trial.config["name"]: trial.value for trial in result.trials}
    assert values == {"OMP_NUM_THREADS": 77, "MKL_NUM_THREADS": max(1, len(os.sched_getaffinity(0)) // 2)}


def test_a_process_that_dies_while_it_has_nothing_to_do_is_replaced():
    with WorkerProcesses(objectives.pid, 1) as processes:
        first = processes.submit({}).result().value
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: not alive(first))
        second = processes.submit({}).result()
    assert second.error is None and second.value != first


def test_programs_that_an_evaluation_has_started_end_with_it(tmp_path):
    space = {"file": Categorical([str(tmp_path / "pid")])}
    trial = minimize(objectives.with_subprocess, space, trials=1, timeout=1).trials[0]
    assert "timeout of 1 s" in trial.error
    wait_until(lambda: not alive(int((tmp_path / "pid").read_text())))


def test_a_dead_process_is_noticed_although_a_child_of_it_holds_the_pipe(monkeypatch):
    monkeypatch.setattr(one_process, "_GLANCE", 0.2)
    trial = minimize(objectives.dies_and_leaves_a_child, SPACE, trials=1, timeout=60).trials[0]
    assert trial.error == "worker process died (exit code 3)" and trial.seconds < 30


def test_a_slow_start_is_told(monkeypatch, caplog):
    monkeypatch.setattr(one_process, "_SLOW_START", 0.01)
    minimize(objectives.bowl, SPACE, trials=1, timeout=60)
    assert "still starting" in caplog.text


def test_an_objective_that_cannot_be_sent_is_refused_with_a_remedy():
    asked = []
    local = lambda config: asked.append(config)  # noqa: E731
    for arguments in ({"workers": 2}, {"timeout": 1.0}):
        with pytest.raises(TypeError, match=r"(?s)cannot be sent to worker processes .*partial.*ThreadPool"):
            minimize(local, SPACE, **arguments)
    with ProcessPoolExecutor(1) as executor, pytest.raises(TypeError, match="cannot be sent"):
        minimize(local, SPACE, executor=executor)
    assert not asked


def test_an_objective_that_cannot_be_loaded_is_an_error(monkeypatch):
    with pytest.raises(RuntimeError, match=r"cannot load the objective .*no module named secret"):
        minimize(objectives.Landmine(), SPACE, workers=2)

    def ghost(config):  # as in a notebook: pickled by its name in the main module, which a process has not
        return 0.0

    ghost.__module__, ghost.__qualname__ = "__main__", "ghost"
    monkeypatch.setattr(sys.modules["__main__"], "ghost", ghost, raising=False)
    with pytest.raises(RuntimeError, match=r"get attribute 'ghost' .*top level of a module"):
        minimize(ghost, SPACE, workers=2)


def test_a_start_that_fails_later_ends_the_run_with_what_is_known(monkeypatch, caplog):
    def no_more(*arguments):
        raise WorkerStartError("out of processes")

    def fail_from_now_on(trial):
        monkeypatch.setattr(pool, "WorkerProcess", no_more)

    space = {"what": Categorical(["value", "ends the process", "none"])}
    result = minimize(objectives.mishap, space, timeout=60, callback=fail_from_now_on)
    ends = [trial.config["what"] for trial in result.trials].index("ends the process")
    assert len(result.trials) == ends + 1 and result.optimizer.pending == []
    assert f"stopped after {ends + 1} of 50 trials: out of processes" in caplog.text


def test_an_exception_in_the_callback_leaves_no_process(tmp_path):
    space = {"folder": Categorical([str(tmp_path)]), "seconds": Categorical([0.0, 60.0])}

    def callback(trial):
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
        raise ZeroDivisionError

    start = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        minimize(objectives.note_and_sleep, space, workers=2, callback=callback)
    assert time.monotonic() - start < 20
    assert not any(alive(int(file.name)) for file in tmp_path.iterdir())


# -------------------------------------------------------------------------------------------- scripts

# A shell starts what runs in its background with Ctrl-C ignored, which the script would inherit.
SCRIPT = """
import json, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
{imports}
def main():
    from bayesopt import Categorical, minimize
    space = {{"folder": Categorical([{folder!r}]), "seconds": Categorical([{seconds}])}}
    space["seed"] = Categorical(list(range(100)))
    result = minimize(process_objectives.note_and_sleep, space, workers=2, progress=False)
    print(json.dumps([len(result.trials), result.values, len(result.optimizer.pending)]), flush=True)
if {guard}:
    main()
"""


@pytest.fixture
def script(tmp_path):
    """Start a script with two workers and an objective that sleeps; wait until both are in it."""
    started = []
    folder = tmp_path / "pids"
    folder.mkdir()

    def start(seconds, guard='__name__ == "__main__"', imports="import process_objectives", evaluating=True):
        file = tmp_path / "script.py"
        file.write_text(SCRIPT.format(folder=str(folder), seconds=seconds, guard=guard, imports=imports))
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        process = subprocess.Popen(
            [sys.executable, str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": path}, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        if evaluating:
            wait_until(lambda: len(list(folder.iterdir())) == 2 or process.poll() is not None, 60)
        return process, lambda: [int(file.name) for file in folder.iterdir()]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_ctrl_c_waits_for_the_evaluations_that_run(script):
    process, pids = script(seconds=2.0)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, err = process.communicate(timeout=30)
    assert json.loads(out) == [2, [1.0, 1.0], 0]
    assert err.startswith("interrupted after 0 of 50 trials; waiting for 2 running evaluations, press Ctrl-C")
    assert err.count("\n") == 1
    assert process.returncode == 0 and not any(map(alive, pids()))


def test_a_second_ctrl_c_abandons_them(script):
    process, pids = script(seconds=60)
    os.kill(process.pid, signal.SIGINT)
    assert "waiting for 2" in process.stderr.readline() and all(map(alive, pids()))
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert json.loads(out) == [0, [], 0] and err == "abandoned 2 running evaluations\n"
    assert process.returncode == 0 and not any(map(alive, pids()))


def test_processes_die_with_their_parent(script):
    process, pids = script(seconds=60)
    assert all(map(alive, pids()))
    process.kill()
    wait_until(lambda: not any(map(alive, pids())))


def test_a_script_without_a_guard_is_told_once(script):
    process, _ = script(seconds=0, guard="True", evaluating=False)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1 and out == ""
    assert err.count("Traceback") == err.count("__main__") == 1
    assert 'put the call under `if __name__ == "__main__":`' in err


def test_a_main_module_that_cannot_be_imported_is_an_error(script):
    broken = "if __name__ != '__main__': raise ImportError('only once')\nimport process_objectives"
    process, _ = script(seconds=0, imports=broken, evaluating=False)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "ImportError: only once" in err
    assert "ended while it was starting (exit code 1). It imports the main module, here" in err


# ------------------------------------------------------------------------------------------ executors


@pytest.mark.parametrize("method", ["auto", "manual"])
def test_workers_begin_with_what_is_enqueued(method):
    queue = [{"x": x} for x in (0.75, -0.5, 0.25)]
    result = minimize(objectives.bowl, SPACE, trials=5, workers=2, method=method, enqueue=queue)
    assert len(result.trials) == (3 if method == "manual" else 5)
    asked = sorted(result.optimizer.state_dict()["trials"], key=lambda entry: entry["asked_at"])
    assert [entry["config"] for entry in asked[:3]] == queue
    assert [entry["value"] for entry in asked[:3]] == [objectives.bowl(config) for config in queue]


def test_each_worker_gets_a_new_configuration_the_moment_it_is_free(two_threads):
    others_done = threading.Semaphore(0)
    first = threading.Lock()

    def objective(config):
        if first.acquire(blocking=False):  # takes as long as the seven others together
            assert all(others_done.acquire(timeout=20) for _ in range(7))
        else:
            others_done.release()
        return objectives.bowl(config)

    result = minimize(objective, SPACE, trials=8, executor=two_threads)
    assert None not in result.values and len(result.values) == 8


@pytest.mark.parametrize(("threads", "workers"), [(3, None), (4, 2), (2, 5)])
def test_so_many_evaluations_run_and_no_more(threads, workers):
    lock, running, peak = threading.Lock(), 0, 0
    submitted = []

    class Counting(ThreadPoolExecutor):
        def submit(self, *arguments):
            submitted.append(super().submit(*arguments))
            most_in_flight.append(sum(not future.done() for future in submitted))
            return submitted[-1]

    most_in_flight = []

    def objective(config):
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        return objectives.bowl(config)

    threads_before = threading.active_count()
    with Counting(threads) as executor:
        result = minimize(objective, SPACE, trials=11, workers=workers, executor=executor, method="sobol")
    assert len(result.trials) == len(submitted) == 11
    assert max(most_in_flight) == (workers or threads) and peak == min(workers or threads, threads)
    assert threading.active_count() == threads_before


def test_what_finishes_together_is_told_in_the_order_of_asking():
    class Together(Executor):
        """Ends its evaluations, last first, once there are three."""

        def __init__(self):
            self.waiting = []

        def submit(self, function, *arguments):
            future = Future()
            self.waiting.append((future, function, arguments))
            if len(self.waiting) == 3:
                for each, evaluate, given in reversed(self.waiting):
                    each.set_result(evaluate(*given))
                self.waiting.clear()
            return future

    runs = [minimize(objectives.bowl, SPACE, 12, workers=3, executor=Together()) for _ in range(2)]
    assert [t.config for t in runs[0].trials] == [t.config for t in runs[1].trials]
    state = runs[0].optimizer.state_dict()
    assert [trial["asked_at"] for trial in state["trials"]] == list(range(12))


def test_failures_on_an_executor_are_trials(two_threads):
    def objective(config):
        raise SystemExit("no data") if config["k"] == 1 else ValueError("bad k")

    result = minimize(objective, {"k": Categorical([1, 2])}, trials=2, executor=two_threads)
    errors = {trial.config["k"]: trial.error for trial in result.trials}
    assert "SystemExit: no data" in errors[1] and "ValueError: bad k" in errors[2]
    assert all("Traceback" in error for error in errors.values())


def test_what_exceeds_the_timeout_is_given_up_and_keeps_its_worker(two_threads, caplog):
    release, threads = threading.Event(), []

    def objective(config):
        threads.append(threading.get_ident())
        if len(threads) == 2:
            release.wait(20)
        return objectives.bowl(config)

    result = minimize(
        objective, SPACE, trials=6, executor=two_threads, timeout=0.3, method="sobol",
        callback=lambda trial: time.sleep(0.1),
    )  # fmt: skip
    release.set()
    [failed] = [trial for trial in result.trials if trial.value is None]
    assert "exceeded timeout of 0.3 s and was given up" in failed.error and "occupied" in failed.error
    assert 0.3 <= failed.seconds < 3 and len(result.trials) == 6
    assert threads[1] not in threads[2:]  # nothing queues up behind the evaluation that hangs
    assert "all 2 workers" not in caplog.text


def test_when_all_workers_of_an_executor_hang_the_run_says_so_and_waits(two_threads, caplog):
    release = threading.Event()

    class Watch(logging.Handler):
        def emit(self, record):
            if "all 2 workers of the executor are occupied" in record.getMessage():
                release.set()

    def objective(config):
        release.wait(20)
        return objectives.bowl(config)

    watch = Watch()
    logging.getLogger("bayesopt").addHandler(watch)
    try:
        result = minimize(objective, SPACE, trials=5, executor=two_threads, timeout=0.2)
    finally:
        logging.getLogger("bayesopt").removeHandler(watch)
    assert release.is_set() and result.values[:2] == [None, None] and None not in result.values[2:]


def test_waiting_for_a_worker_is_not_part_of_the_timeout():
    def objective(config):
        time.sleep(0.2)
        return objectives.bowl(config)

    with ThreadPoolExecutor(1) as executor:  # the last one waits for a second
        result = minimize(objective, SPACE, trials=6, workers=6, executor=executor, timeout=0.8)
    assert None not in result.values


def test_the_timeout_works_where_futures_do_not_say_that_they_run(two_threads):
    release = threading.Event()

    class Distant(Executor):
        """As Dask's: a future is pending until it is done, and "can be cancelled" while it is running."""

        def submit(self, function, *arguments):
            future = Future()
            inner = two_threads.submit(function, *arguments)
            inner.add_done_callback(lambda done: future.cancelled() or future.set_result(done.result()))
            return future

    def objective(config):
        release.wait(20)
        return objectives.bowl(config)

    result = minimize(
        objective, SPACE, trials=4, workers=2, executor=Distant(), timeout=0.3,
        callback=lambda trial: release.set() if trial.number == 1 else None,
    )  # fmt: skip
    assert [value is None for value in result.values] == [True, True, False, False]


class Breaking(ThreadPoolExecutor):
    """Breaks after three evaluations; those that are running are lost with it."""

    accepted = 0
    at_submit = False

    def submit(self, *arguments):
        self.accepted += 1
        if self.accepted <= 3:
            return super().submit(*arguments)
        if self.at_submit:
            raise BrokenExecutor("the power went out")
        future = Future()
        future.set_exception(BrokenExecutor("the power went out"))
        return future


@pytest.mark.parametrize("at_submit", [True, False])
def test_a_broken_executor_ends_the_run_with_what_is_known(at_submit, caplog):
    with Breaking(1) as executor:
        executor.at_submit = at_submit
        result = minimize(objectives.bowl, SPACE, trials=9, executor=executor)
    assert len(result.trials) == (3 if at_submit else 4) and None not in result.values[:3]
    assert at_submit or "the power went out" in result.trials[3].error
    assert f"stopped after {len(result.trials)} of 9 trials: the power went out" in caplog.text
    assert result.optimizer.pending == []


def test_an_executor_that_is_shut_down_is_an_error():
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="shutdown"):
        minimize(objectives.bowl, SPACE, executor=executor)


def test_an_interrupt_in_an_evaluation_ends_the_run(two_threads, caplog):
    calls = []

    def objective(config):  # what Ctrl-C does to the processes of a ProcessPoolExecutor
        calls.append(config)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return objectives.bowl(config)

    result = minimize(objective, SPACE, trials=50, executor=two_threads)
    assert 4 <= len(result.trials) <= 6 and None not in result.values
    assert result.optimizer.pending == [] and "interrupted after" in caplog.text


def test_a_first_interrupt_ends_the_asking_and_a_second_one_the_waiting(caplog):
    numbers, first_told, release = iter(range(3)), threading.Event(), threading.Event()

    def objective(config):
        number = next(numbers)  # there are no more than three calls
        if number > 0:
            (first_told if number == 1 else release).wait(20)
        return objectives.bowl(config)

    def callback(trial):
        first_told.set()
        raise KeyboardInterrupt

    with ThreadPoolExecutor(3) as executor:
        result = minimize(objective, SPACE, trials=50, executor=executor, callback=callback)
        release.set()
    assert "interrupted after 1 of 50 trials; waiting for 2 running evaluations, press Ctrl-C" in caplog.text
    assert "abandoned 1 running evaluations" in caplog.text
    assert len(result.trials) == 2 and None not in result.values and result.optimizer.pending == []


def test_progress_shows_what_is_running(two_threads, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # draw as on a terminal

    def objective(config):
        time.sleep(0.25)
        return None if config["x"] < 0 else objectives.bowl(config)

    minimize(objective, SPACE, trials=4, executor=two_threads, progress=True)
    shown = capsys.readouterr().err
    assert all(part in shown for part in ("2 running", "1 failed", "best", "4/4"))


# ------------------------------------------------------------------------------------------ arguments


@pytest.mark.parametrize("workers", [0, -1, 2.0, True, "2"])
def test_a_bad_number_of_workers_is_refused(workers):
    with pytest.raises(ValueError, match="workers must be an integer >= 1, got"):
        minimize(objectives.bowl, SPACE, workers=workers)


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan"), True, "5"])
def test_a_bad_timeout_is_refused(timeout):
    with pytest.raises(ValueError, match="timeout must be a number of seconds > 0"):
        minimize(objectives.bowl, SPACE, timeout=timeout)


@pytest.mark.parametrize("executor", [4, "threads", ThreadPoolExecutor])
def test_a_bad_executor_is_refused(executor):
    with pytest.raises(TypeError, match="executor must be a"):
        minimize(objectives.bowl, SPACE, executor=executor)


class Inline(Executor):
    """Says nothing about the number of its workers."""

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future


def test_an_executor_of_unknown_size_needs_the_number_of_workers():
    with pytest.raises(ValueError, match="pass workers="):
        minimize(objectives.bowl, SPACE, executor=Inline())
    assert len(minimize(objectives.bowl, SPACE, trials=5, executor=Inline(), workers=2).trials) == 5


def test_futures_of_another_kind_are_refused():
    class Client:
        def submit(self, function, *arguments):
            return object()

    with pytest.raises(TypeError, match="get_executor"):
        minimize(objectives.bowl, SPACE, executor=Client(), workers=2)

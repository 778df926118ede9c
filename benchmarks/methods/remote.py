"""A method in another interpreter: lines of JSON to its standard input, answers from its standard output.

`python -m benchmarks.methods.remote` is the other end. It needs the libraries of its method and numpy, not
this project's. A value that JSON lacks is written as Python's `json` does (NaN, Infinity).
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from benchmarks.methods.axes import Config
from benchmarks.methods.protocol import Space, UnsupportedError

_ROOT = Path(__file__).parents[2]


class Remote:
    """One study of a method in a process of another interpreter.

    Args:
        python: path of the interpreter.
        name: of the method, as in `benchmarks.methods.METHODS`.
    """

    def __init__(self, python: str, name: str, space: Space, seed: int, budget: int, **settings: Any) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.methods.remote"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, cwd=_ROOT,
            env=environment, text=True,
        )  # fmt: skip
        self._call(make=name, space=dict(space), seed=seed, budget=budget, settings=settings)

    def _call(self, **message: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._process.wait(timeout=60)
            self._errors.seek(0)
            text = self._errors.read().decode(errors="replace")
            raise RuntimeError(f"the process of the method ended unexpectedly:\n{text[-4000:]}")
        answer = json.loads(line)
        if "unsupported" in answer:
            raise UnsupportedError(answer["unsupported"])
        return answer.get("result")

    def ask(self, q: int) -> list[Config]:
        return self._call(ask=q)

    def tell(self, config: Mapping[str, Any], value: float | None, /) -> None:
        self._call(tell=dict(config), value=value)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()

    def __del__(self) -> None:
        if hasattr(self, "_process"):
            self.close()


def serve(lines: IO[str], answers: IO[str]) -> None:
    """Answer until the lines end."""
    from benchmarks.methods import METHODS

    method: Any = None
    for line in lines:
        message = json.loads(line)
        result: Any = None
        try:
            if "make" in message:
                make = METHODS[message["make"]]
                arguments = (message[key] for key in ("space", "seed", "budget"))
                method = make.load()(*arguments, **message["settings"])
            elif "ask" in message:
                result = method.ask(message["ask"])
            else:
                method.tell(message["tell"], message["value"])
            answer = {"result": result}
        except UnsupportedError as reason:
            answer = {"unsupported": str(reason)}
        answers.write(json.dumps(answer, default=_plain) + "\n")
        answers.flush()


def _plain(value: Any) -> Any:
    """A scalar of numpy as Python's."""
    return value.item()


if __name__ == "__main__":
    # Libraries print what they like: only the answers go to the real standard output.
    with os.fdopen(os.dup(1), "w") as channel:
        os.dup2(2, 1)
        serve(sys.stdin, channel)

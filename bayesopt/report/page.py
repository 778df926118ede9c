"""The page: its sections, its look, and the file."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bayesopt.report import curves, failures, model, parallel, tried
from bayesopt.report.markup import Markup, escaped, joined, tag
from bayesopt.report.run import Run

if TYPE_CHECKING:
    from os import PathLike

    from bayesopt.books import Result
    from bayesopt.optimizer import Optimizer
    from bayesopt.storage.study import Study

#: Identifier, title, and what to put there.
SECTIONS: tuple[tuple[str, str, Callable[[Run], Markup]], ...] = (
    ("progress", "Progress", tried.progress),
    ("leaderboard", "Leaderboard", tried.leaderboard),
    ("next", "The next proposal", model.proposal),
    ("gain", "Still to be gained", model.gain),
    ("importance", "Importance", model.importance),
    ("slices", "Slices around the best", model.slices),
    ("parallel", "Parallel coordinates", parallel.parallel),
    ("curves", "Learning curves", curves.learning_curves),
    ("failures", "Failures", failures.failures),
)

_STYLE = Path(__file__).with_name("style.css")

# Nothing in the file may load anything or run: it is somebody's names and errors, after all.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def write(source: "Study | Optimizer | Result", path: "str | PathLike[str]") -> None:
    """Write one self-contained HTML file about a run: it loads nothing and runs no script.

    Progress, leaderboard, the next proposal and why, what is still to be gained, importance, slices of the
    posterior, parallel coordinates, learning curves and failures. Takes a few times as long as an ask.

    Args:
        source: a `Study`, an `Optimizer`, or what `minimize` returned.
        path: of the file; an existing one is replaced.

    Raises:
        TypeError: the source is none of these.
        OSError: the file cannot be written.
    """
    text = page(Run.of(source))
    Path(path).write_text(text, encoding="utf-8")


def page(run: Run) -> str:
    """The whole file."""
    sections = [(key, title, draw(run)) for key, title, draw in SECTIONS]
    head = joined(
        [
            Markup(
                '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
            ),
            Markup(f'<meta http-equiv="Content-Security-Policy" content="{escaped(_POLICY)}">'),
            tag("title", f"{run.title} – bayesopt"),
            Markup(f"<style>{_STYLE.read_text(encoding='utf-8')}</style>"),
        ]
    )
    goal = "larger is better" if run.maximize else "smaller is better"
    body = [
        tag("header", tag("h1", run.title), tag("p", f"{run.space.dim} parameters; {goal}.", class_="note")),
        tag("nav", *(tag("a", title, href=f"#{key}") for key, title, _ in sections), aria_label="Sections"),
        tag("main", tried.summary(run), *(
            tag("section", tag("h2", title), content, id=key) for key, title, content in sections
        )),
        tag("footer", tag("p", "Written by bayesopt.", class_="note")),
    ]  # fmt: skip
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{joined(body)}</body></html>\n'

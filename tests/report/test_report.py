"""The report of every kind of run: complete, harmless, small, and true to its numbers."""

import math
import re
from html.parser import HTMLParser

import pytest
import torch
from scipy.stats import ks_2samp

from bayesopt import Float, Optimizer, report
from bayesopt.plots import best_so_far
from bayesopt.report import failures, model, tried
from bayesopt.report.importance import FEWEST, importance
from bayesopt.report.markup import escaped, number, tag
from bayesopt.report.page import SECTIONS, page
from bayesopt.report.run import Run, spread
from bayesopt.report.svg import Axis, robust, shortened
from tests.report.runs import HOSTILE, KINDS, WIDE, told, trained

TAGS = re.findall(
    r"\w+",
    """a b body circle details div footer g h1 h2 h3 head header html i li main meta nav p path polygon
    polyline rect section span style summary svg table tbody td text th thead title tr ul""",
)


class Page(HTMLParser):
    """What is in a page; an AssertionError where an element is not closed in its place."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.ids, self.text = [], set(), set(), [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.ids += [value for name, value in attrs if name == "id"]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.parametrize("kind", KINDS)
def test_every_section_is_there_and_nothing_can_run_or_load(kind, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("what was there before")
    report.write(KINDS[kind](), path)
    text = path.read_text(encoding="utf-8")
    found = Page(text)
    assert found.ids == [key for key, _, _ in SECTIONS]
    assert found.tags <= set(TAGS)
    assert not {name for name in found.attributes if name.startswith("on")} | {"src"} & found.attributes
    assert "://" not in text and "url(" not in text and "@import" not in text
    assert "default-src &#x27;none&#x27;" in text
    assert "nan" not in "".join(found.text) or kind == "hostile"
    assert len(text) < 600_000


def test_what_is_hostile_is_shown_as_it_is():
    found = Page(page(Run.of(KINDS["hostile"]())))
    shown = " ".join(found.text)
    assert "<script>alert('x')</script>" in shown and "onerror=alert(1)" in shown
    assert "\x00" not in shown and "\ufffd" in shown


@pytest.mark.slow
def test_thousands_of_trials_of_fifty_parameters_stay_small(monkeypatch):
    monkeypatch.setattr("bayesopt.report.run.STAND_IN", 100)  # results that a model is fitted to
    opt = Optimizer(WIDE, method="tpe")  # the model is fitted to a part
    configs = Optimizer(WIDE, method="random").ask(3000)
    opt.tell(configs, [None if i % 7 == 0 else c["p0"] + c["p1"] ** 2 for i, c in enumerate(configs)])
    run = Run.of(opt)
    text = page(run)
    assert len(text) < 700_000
    assert len(run.seer.trials) == 125 and "fitted for the report" in text


def test_a_report_changes_nothing_and_is_always_the_same():
    opt = told(WIDE, 30, lambda config: config["p3"])
    before = opt.state_dict()
    assert page(Run.of(opt)) == page(Run.of(opt))
    assert opt.state_dict() == before


def test_only_runs_can_be_reported(tmp_path):
    with pytest.raises(TypeError, match="a Study, an Optimizer or a Result, got dict"):
        report.write({}, tmp_path / "report.html")


# ------------------------------------------------------------------------------------------- true numbers


def test_improvements_are_where_the_best_so_far_changes():
    def wave(config):
        return None if config["x"] > 0.9 else math.sin(20 * config["x"])

    for maximize in (False, True):
        opt = told({"x": Float(0.0, 1.0)}, 40, wave, maximize=maximize)
        best = best_so_far([t.value for t in opt.trials], maximize=maximize)
        expected = [(i + 1, b) for i, b in enumerate(best) if i == 0 or b != best[i - 1]]
        assert tried._steps(Run.of(opt)) == [(n, b) for n, b in expected if not math.isnan(b)]


def test_the_leaderboard_begins_with_the_best_and_leaves_out_what_was_stopped_early():
    run = Run.of(trained())
    assert run.finished[0] == trained().best_trial
    values = [trial.value for trial in run.finished]
    assert values == sorted(values) and not any(trial.pruned for trial in run.finished)
    assert len(run.finished) + len(run.failed) + sum(t.pruned for t in run.trials) == len(run.trials)


def test_curves_are_what_was_reported_and_end_early_where_a_trial_did():
    run = Run.of(trained())
    finished = {t.number for t in run.finished}
    assert {n for n, curve in run.curves.items() if max(curve) == 11} == finished
    assert any(t.pruned for t in run.trials)
    assert run.curves.keys() <= {t.number for t in run.trials}


def test_slices_show_what_predict_says():
    run = Run.of(trained())
    for j, name in enumerate(run.space.names):
        base = next(t for t in run.finished if name in t.config)
        grid = model._grid(run, base, j)
        assert len(grid) >= 2
        direct = run.optimizer.predict(run.space.decode(grid))
        for a, b in zip(run.predictions(grid), direct, strict=True):
            assert (a.median, a.low, a.high) == pytest.approx((b.median, b.low, b.high), abs=1e-6)


def test_failures_are_counted_by_their_last_line():
    run = Run.of(trained())
    text = "".join(Page(failures.failures(run)).text)
    assert f"{len(run.failed)}RuntimeError: loss exploded" in text
    assert failures.last_line("Traceback:\n  x\nValueError: y\n\n") == "ValueError: y"
    assert failures.last_line(None) == failures.last_line("\n") == "no number was returned"


def test_separation_is_that_of_kolmogorov_and_smirnov():
    source = torch.Generator().manual_seed(0)
    a, b = torch.rand(30, generator=source), torch.rand(17, generator=source).square()
    assert failures._separation(a, b) == pytest.approx(ks_2samp(a.numpy(), b.numpy()).statistic)
    assert failures._separation(a, a[:0]) == 0.0


def test_best_half_and_others_evenly():
    trials = told({"x": Float(0.0, 1.0)}, 100, lambda c: c["x"]).trials
    few = spread(trials, 10)
    assert few[:5] == trials[:5] and len(few) == 10 and [t.number for t in few[5:]] == [5, 24, 43, 62, 81]
    assert spread(trials[:10], 10) == trials[:10]


# -------------------------------------------------------------------------------------------- importance


def test_what_matters_is_important_and_what_does_not_is_not():
    space = {name: Float(0.0, 1.0) for name in "abcd"}
    found = importance(told(space, 60, lambda c: math.sin(7 * c["b"]) + 0.5 * c["d"])._learner.learnt())
    assert sum(found.model) == pytest.approx(1.0) and sum(found.data) == pytest.approx(1.0)
    assert found.order()[:2] == [1, 3]
    assert found.data[0] + found.data[2] < 0.02 and found.model[0] + found.model[2] < 0.05
    assert found.score > 0.95


def test_a_trend_is_named_as_the_disagreement_it_is():
    """Large and slow: the lengthscale is long, but who does not know it predicts nothing."""
    space = {"trend": Float(0.0, 1.0), "ripple": Float(0.0, 1.0)}
    opt = told(space, 80, lambda c: 3 * c["trend"] + 0.5 * math.sin(12 * c["ripple"]))
    found = importance(opt._learner.learnt())
    assert found.disagreements() == [0, 1]
    assert found.data[0] > 0.8 > 0.2 > found.model[0]
    text = "".join(Page(model.importance(Run.of(opt))).text)
    assert "Where they disagree" in text and "a trend rather than a valley" in text


def test_noise_alone_is_not_explained():
    source = torch.Generator().manual_seed(0)
    noise = lambda c: float(torch.randn((), generator=source))  # noqa: E731
    opt = told({name: Float(0.0, 1.0) for name in "abc"}, 40, noise)
    assert importance(opt._learner.learnt()).score < 0.3
    assert "hardly predicted" in model.importance(Run.of(opt))
    assert importance(told(WIDE, FEWEST - 1, noise)._learner.learnt()) is None


# ------------------------------------------------------------------------------------------------ helpers


@pytest.mark.parametrize(
    "values",
    [
        [0.0, 1.0],
        [5.0],
        [-3.0, 4.0, 1e3],
        [1e-12, 3.0],
        [1e-300, 1e300],
        [-1e307, 1e307],
        [0.24101, 0.24123],
        [],
    ],
    ids=str,
)
def test_axes_keep_order_stay_inside_and_tell_their_ticks_apart(values):
    axis = Axis.over(values, 100.0, 20.0)
    places = [axis(v) for v in sorted(values)]
    assert places == sorted(places, reverse=True)
    assert all(20.0 <= p <= 100.0 for p in [*places, axis(-1e308), axis(1e308)])
    labels = axis.labels(6)
    assert 1 <= len(labels) <= 7 and len({text for _, text in labels}) == len(labels)
    assert all(axis.low <= value <= axis.high for value, _ in labels)


def test_hopeless_values_do_not_hide_the_others():
    values = [*range(20), 1e9, 1e300]
    assert max(robust(values, False)) < 100
    assert min(robust([-v for v in values], True)) > -100
    assert robust([1.0, 1.0], False) == [1.0, 1.0] and robust([], True) == []


def test_markup_escapes_once():
    assert tag("p", tag("b", "<"), "&") == "<p><b>&lt;</b>&amp;</p>"
    assert tag("p", title='"><x') == '<p title="&quot;&gt;&lt;x"></p>'
    assert "\x00" not in escaped(HOSTILE) and escaped(HOSTILE).encode()


def test_texts_are_cut_and_numbers_read_well():
    assert shortened("a  b\nc") == "a b c" and shortened("x" * 40, 10) == "x" * 9 + "…"
    assert number(-1.5e-7) == "−1.5e−7" and number(1234.0) == "1234"

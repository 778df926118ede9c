import math
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bayesopt import Float, minimize
from bayesopt.plots import best_so_far, plot_progress

SPACE = {"x": Float(0.01, 1.0)}


def test_best_so_far_is_monotone_and_mirrors() -> None:
    values = [3.0, None, 5.0, 1.0, 2.0]
    assert best_so_far(values) == [3.0, 3.0, 3.0, 1.0, 1.0]
    mirrored = best_so_far([None if value is None else -value for value in values], maximize=True)
    assert [-value for value in mirrored] == best_so_far(values)


def test_best_so_far_is_nan_before_the_first_success() -> None:
    best = best_so_far([None, 2.0])
    assert math.isnan(best[0])
    assert best[1] == 2.0


def test_picture_names_every_run_and_touches_no_global_state(tmp_path: Path) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    results = {
        "first": minimize(lambda config: config["x"] ** 3, SPACE, trials=4, method="random", progress=False),
        "second": minimize(lambda config: math.nan, SPACE, trials=3, method="random", progress=False),
    }
    figure = plot_progress(results, tmp_path / "progress.svg", ylabel="loss")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["first", "second"]
    assert figure.axes[0].get_ylabel() == "loss"
    assert ElementTree.parse(tmp_path / "progress.svg").getroot().tag.endswith("svg")
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(("exponent", "scale"), [(1, "linear"), (3, "log")])
def test_values_over_many_magnitudes_get_a_logarithmic_axis(exponent: int, scale: str) -> None:
    values = iter([0.1, 0.5, 1.0])
    result = minimize(lambda _: next(values) ** exponent, SPACE, trials=3, method="random", progress=False)
    assert plot_progress({"run": result}).axes[0].get_yscale() == scale

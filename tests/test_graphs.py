"""Recorded computations: the same numbers as without, few records, and what happens where there can be none.

Without a GPU the record is a fake one: it computes the function again of its own tensors, into its outputs.
"""

import logging

import pytest
import torch

from bayesopt import Float, Optimizer, graphs
from bayesopt.kernels import RBF, Stationary
from bayesopt.surrogates import padded
from bayesopt.surrogates.gp import negative_log_posterior
from bayesopt.surrogates.priors import default_priors
from tests import pretend

D = 3
KERNELS = {
    "warped": Stationary(groups=(0, 1, 1), warp=True),
    "sum": Stationary(groups=(0, 1, 2)) + Stationary(groups=(0,), columns=(1,), profile=RBF()),
}
SPACE = {"x": Float(-1.0, 1.0), "y": Float(-1.0, 1.0)}


@pytest.fixture
def made(monkeypatch):
    """Graphs are on, on every device; the functions that were recorded, and the tensors of the records."""
    functions = []

    def record(function, own):
        functions.append((function, own))
        outputs = function(*own)

        def replay():
            for out, new in zip(outputs, function(*own), strict=True):
                out.copy_(new)

        return replay, outputs

    monkeypatch.setattr(graphs, "_can_record", lambda X: not torch.is_grad_enabled())
    monkeypatch.setattr(graphs, "record", record)
    with graphs.switched(True):
        yield functions


def data(device, n):
    X = torch.rand(1, n, D, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    y = torch.sin(5 * X).sum(-1)
    known = 0.1 * torch.rand(1, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return X.to(device), ((y - y.mean()) / y.std()).to(device), known.to(device)


def study(n, device="cpu"):
    opt = Optimizer(SPACE, seed=1, device=device)
    uniform = torch.rand(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    configs = opt.space.decode(uniform)
    opt.tell(configs, [(c["x"] - 0.2) ** 2 + 3 * (c["y"] - 0.3) ** 2 for c in configs])
    return opt


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())
@pytest.mark.parametrize("noise", ["fitted", "told"])
@pytest.mark.parametrize("n", [1, 23, 32])
def test_a_padded_likelihood_is_that_of_the_data(kernel, noise, n, device, made):
    X, y, known = data(device, n + 1)
    X, y, known = X[:, :n], y[:, :n], known[:, :n] if noise == "told" else None
    priors = default_priors(kernel, D).to(device)
    with torch.no_grad():
        evaluate = padded.objective(X, y, kernel, priors, known)
        for theta in priors.starts:
            found = evaluate(theta[None])
            expected = negative_log_posterior(theta[None], X, y, kernel, priors, known)
            for ours, theirs in zip(found, expected, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)
    assert len(made) == 1


def test_a_padded_likelihood_is_infinite_where_it_cannot_be_factorised(device, made):
    kernel = KERNELS["warped"]
    priors = default_priors(kernel, D).to(device)
    X, y, _ = data(device, 9)
    with torch.no_grad():
        value, _ = padded.objective(X, y, kernel, priors, torch.full_like(y, -5.0))(priors.mode[None])
    assert value.item() == torch.inf


@pytest.mark.parametrize("n", [9, 31, 32])
def test_proposals_are_the_same(n, made):
    configs = [*study(n).ask(2), study(n).ask()]
    assert made
    with graphs.switched(False):
        expected = [*study(n).ask(2), study(n).ask()]
    for found, there in zip(configs, expected, strict=True):
        assert list(found.values()) == pytest.approx(list(there.values()), abs=1e-4)


def test_records_serve_while_a_history_grows(made):
    opt = study(20)
    opt.ask(), opt.ask()  # one by each surrogate
    recorded = len(made)
    for _ in range(5):
        config = opt.ask()
        opt.tell(config, config["x"] ** 2)
    names = [key[0][0] for key in graphs._records]
    assert names.count("likelihood") == 2 and len(graphs._records) <= graphs.KEPT
    assert len(made) <= recorded + 2  # at most other numbers of points of the acquisition
    study(40).ask()
    assert [key[0][0] for key in graphs._records].count("likelihood") == 3


def test_what_is_recorded_never_waits_for_the_device(made):
    """A wait would end the recording of a real graph."""
    with pretend.gpu() as gpu, torch.no_grad():
        study(20, gpu.device).ask()
        assert {key[0][0] for key in graphs._records} == {"likelihood", "acquisition"}
        gpu.clear()
        for function, own in made:
            function(*own)
        assert not gpu.stalls and not gpu.copies


def test_outputs_are_copies_and_inputs_are_copied_when_they_change(made):
    copied = []

    def double(x, y):
        return 2.0 * x, x + y

    x, y = torch.ones(3), torch.zeros(3)
    first = graphs.replayed("double", double, x, y)
    (record,) = graphs._records.values()
    record._own = [torch.Tensor._make_subclass(Told, own) for own in record._own]
    Told.copied = copied
    graphs.replayed("double", double, x, y)
    assert not copied
    y += 1.0
    second = graphs.replayed("double", double, x, y)
    third = graphs.replayed("double", double, x.clone(), y)
    assert len(copied) == 2  # y, then the other x
    assert [part.tolist() for part in first] == [[2.0] * 3, [1.0] * 3]
    assert [part.tolist() for part in second] == [part.tolist() for part in third] == [[2.0] * 3, [2.0] * 3]


class Told(torch.Tensor):
    """Says when it is written to."""

    copied: list

    def copy_(self, *args, **kwargs):
        self.copied.append(1)
        return super().copy_(*args, **kwargs)


def test_what_cannot_be_recorded_is_computed_with_one_warning(made, monkeypatch, caplog):
    tried = []

    def refuse(function, own):
        tried.append(own[0].shape)
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(graphs, "record", refuse)
    with caplog.at_level(logging.WARNING, "bayesopt"):
        for n in (3, 3, 4):
            assert graphs.replayed("f", lambda x: (x + 1.0,), torch.zeros(n))[0].tolist() == [1.0] * n
    assert len(caplog.records) == len(tried) == 1
    assert "not permitted" in caplog.text
    assert not graphs._records


def test_an_error_of_the_function_itself_is_no_reason_to_go_on_without(made):
    def wrong(x):
        raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        graphs.replayed("wrong", wrong, torch.zeros(1))


def test_only_the_latest_records_are_kept(made):
    for n in [*range(1, graphs.KEPT + 2), 2]:
        graphs.replayed("f", lambda x: (x,), torch.zeros(n))
    assert len(graphs._records) == graphs.KEPT
    assert [key[1][0] for key in graphs._records][-1] == (2,)
    assert (1,) not in [key[1][0] for key in graphs._records]


def test_it_is_for_single_studies_on_cuda_and_only_where_it_is_on(monkeypatch):
    X = torch.zeros(1, 8, D, dtype=torch.float64)
    with torch.no_grad():
        with graphs.switched(True):
            assert not graphs.serves(X, 8)
            monkeypatch.setattr(graphs, "_can_record", lambda X: True)
            assert graphs.serves(X, graphs.LONGEST)
            assert not graphs.serves(X, graphs.LONGEST + 1)
            assert not graphs.serves(X.expand(2, -1, -1), 8)
        assert not graphs.serves(X, 8)


def test_a_real_graph_computes_the_same():
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    kernel = KERNELS["warped"]
    cuda = torch.device("cuda")
    priors = default_priors(kernel, D).to(cuda)
    with graphs.switched(True), torch.no_grad():
        for n in (20, 25):
            X, y, _ = data(cuda, n)
            evaluate = padded.objective(X, y, kernel, priors, None)
            for theta in priors.starts:
                expected = negative_log_posterior(theta[None], X, y, kernel, priors)
                for ours, theirs in zip(evaluate(theta[None]), expected, strict=True):
                    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)
        assert len(graphs._records) + len(graphs._refused) == 1

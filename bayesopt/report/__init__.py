"""One HTML file about a run: what was tried, what was learnt, what comes next."""

from bayesopt.report.page import write

__all__ = ["write"]

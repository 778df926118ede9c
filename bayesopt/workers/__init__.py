"""Evaluating an objective: in this process, in worker processes, or on somebody's executor."""

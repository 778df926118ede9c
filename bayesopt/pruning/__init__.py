"""Stopping evaluations early: a process over learning curves, and the pruner that asks it."""

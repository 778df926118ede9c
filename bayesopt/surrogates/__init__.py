"""Surrogate models: outcome transforms, priors, Gaussian processes."""

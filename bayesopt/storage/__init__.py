"""Studies that last: their trials live in an Optuna storage, shared by any number of processes."""

"""The command line. What its help needs is in the standard library; the engine is loaded by what runs."""

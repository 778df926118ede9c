"""`python -m bayesopt` is `bayesopt`, the command line."""

from bayesopt.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())

"""`python -m tests.faults.matrix`: see `run`."""

from tests.faults.matrix.run import main

if __name__ == "__main__":
    raise SystemExit(main())

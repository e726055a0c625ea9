"""`python -m spile.services.persistence`: the same as `spile run persistence`."""

from spile.services.command import main

if __name__ == "__main__":
    main(["run", "persistence"])

"""`python -m spile.services.archiver`: the same as `spile run archiver`."""

from spile.services.command import main

if __name__ == "__main__":
    main(["run", "archiver"])

"""`python -m spile.services.command` is `spile`."""

from spile.services.command import main

if __name__ == "__main__":
    main()

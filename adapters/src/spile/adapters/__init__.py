"""
Adapters behind the contracts of `spile.spi`.

`delivery` is the engine that every transport shares, `kafka` and `memory` are transports.
"""

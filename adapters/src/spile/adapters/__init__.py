"""
Adapters behind the contracts of `spile.spi`.

From the ground up: `delivery` (records, headers, the seams to a transport), `dead_letters`,
`registry` (schemas) and `wire` (encodings of values), `publishing` and `subscribing`, `bus`, and
the transports `kafka` and `memory`.
"""

"""The wire, pure: no I/O, no lock, no clock; client and server alike build on it."""

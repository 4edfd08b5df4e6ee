"""The core: every rule of redset, without I/O but in :mod:`redset.core.drivers` and what it calls."""

"""The core: every rule of redset, without I/O but in :mod:`redset.core.drivers` and :mod:`redset.core.clients`."""

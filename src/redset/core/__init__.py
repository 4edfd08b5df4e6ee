"""The core: every rule of redset, without I/O above :mod:`redset.core.drivers`."""

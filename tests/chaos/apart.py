"""Imported by the process that forks the workers of a run: a Ctrl-C reaches neither that nor them.

It reaches the process that has started the run, which ends them.
"""

import os

os.setpgid(0, 0)

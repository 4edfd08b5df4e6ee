"""A simulator of the life of a call: what the core does, on a model of the server, whatever goes wrong at any moment.

The core does no I/O, so its generators (:mod:`redset.core.talking`) and its coalescing run here in one thread, with the
real operations of a set. A list of numbers makes the choices of a run, so runs can be repeated, and short ones are
tried with every choice there is.

- ``server_model.py``: the model server. test_simulator.py compares it with a real one: the same requests have the same
  replies.
- ``threads.py``: threads and forked children. At each step one request is carried out, is lost, arrives late, is
  repeated, refused, interrupted or abandoned; or a late copy arrives, all leases expire, or the process is forked.
- ``tasks.py``: tasks on an event loop with a clock of its own. At each turn of the loop any task may be cancelled.
- ``ledger.py``: what must be true. Each item added is in exactly one place: received, acked, waiting, dead, or under a
  lease that its holder knows. No end takes effect twice or not at all, and no live lease is said to be lost.
- ``scenarios.py``: what threads do. ``bugs.py``: faults that are planted in the core, each of which is found.

A run that fails adds its history to the error, and its choices. ``Run(SCENARIOS[name], Choices([...])).run()``
repeats it.

What it cannot find, and why:

- Races of threads between two requests. A thread runs from one request to the next without a switch, so whatever needs
  another thread between two bytecodes of the core is not seen; nor is an interruption there.
- Faults of links, pools and client libraries: requests are carried by the run. test_connections.py has these.
- Faults of scripts that the model has not. It knows plain sets: no keys, remembered items, periods, `clear()`,
  wake-ups, full servers or rights. Items are added once, so no thread meets a parked one.
- Whether an interrupted claim is rolled back at once: a debt that the next claim pays is as good here.
- Signals: an Exception counts as an interruption because the client library did not raise it. test_interruptions.py has
  those that signal handlers raise.
- Records that are older than ten minutes, servers that forget what they acknowledged, and processes that die.
- Waiting for items: a consumer that finds nothing ends, and items that cannot be loaded, which are buried.
- Forks in an event loop.
"""

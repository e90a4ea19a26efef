"""How runs are trained: a live run, and several seeds side by side; the loop itself is `core.loop`."""

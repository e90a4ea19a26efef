"""What depends on the system: signals, and threads for simulated devices."""

"""What depends on the system: signals, threads for simulated devices, and the platform that programs are made for."""

"""Values that an experiment is made of: their bounds, their changes by name, their form as JSON."""

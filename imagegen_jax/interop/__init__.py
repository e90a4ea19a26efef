"""Models of other libraries, as runs of this one."""

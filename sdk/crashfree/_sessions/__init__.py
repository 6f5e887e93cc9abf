"""Sessions of a process and of its units of work, right however the process dies."""

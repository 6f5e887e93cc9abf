"""From an envelope to a server: one thread, one queue, limits, spool."""

"""The ground: what every floor stands on (clock, ids, JSON, counters, diagnostics, environment)."""

"""From a live exception to an event: stack traces, scopes, normalising, scrubbing."""

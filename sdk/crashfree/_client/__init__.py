"""Composition: options, client, the current state of the process, hooks and integrations."""

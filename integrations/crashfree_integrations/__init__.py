"""Integrations of crashfree with frameworks, servers and task queues; one file each."""

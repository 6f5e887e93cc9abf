"""The folder that `crashfree run` puts on PYTHONPATH; see `sitecustomize` beside this file."""

"""A program that finds its release in the archive it comes from."""

from __future__ import annotations

import crashfree

client = crashfree.init()
print(f"hello from {client.options.release} ({client.options.release_source})")
crashfree.close()

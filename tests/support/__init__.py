"""What tests share: a clock that stands still, waiting for conditions, processes and servers."""

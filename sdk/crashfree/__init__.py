"""crashfree: releases and release health for Python."""

from crashfree._version import __version__ as __version__

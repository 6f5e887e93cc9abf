"""The floor of every module; imports go down, or stay inside one package.

A package is listed once for all its modules; a module of its own line overrides it.
"""

WORKSHOPS = 2
"""The floor whose packages are strangers to each other."""

FLOORS = {
    # 0 ground
    "crashfree._version": 0,
    "crashfree.errors": 0,
    "crashfree.types": 0,
    "crashfree._ground": 0,
    # 1 the wire, pure
    "crashfree.release": 1,
    "crashfree._protocol": 1,
    # 2 workshops, strangers to each other
    "crashfree._capture": 2,
    "crashfree._sessions": 2,
    "crashfree._resolve": 2,
    "crashfree._delivery": 2,
    "crashfree.management": 2,
    "crashfree.server": 2,
    # 3 composition
    "crashfree._client": 3,
    # 4 surface
    "crashfree": 4,
    "crashfree._api": 4,
    "crashfree.integration": 4,
    "crashfree.testing": 4,
    # 5 doors
    "crashfree.__main__": 5,
    "crashfree._cli": 5,
    "crashfree._launch": 5,
    # 6 frameworks
    "crashfree_integrations": 6,
}

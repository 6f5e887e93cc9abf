"""Where the release, the environment and the other facts of a deployment come from."""

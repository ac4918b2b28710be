"""A market that is always open."""

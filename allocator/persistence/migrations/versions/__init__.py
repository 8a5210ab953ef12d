"""Revisions; each is named by the one before it."""

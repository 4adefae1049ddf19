"""Checks that can fail, their records and cards, and counts; uses nothing else of zotk."""

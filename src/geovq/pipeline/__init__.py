"""Stages of a run and their cache: from a configuration to a folder with a report."""

"""Stages of a run and their cache: from a configuration to a folder with a report.

``geovq.pipeline.run.run_recipe`` carries out a run; ``geovq.pipeline.tools`` are the single jobs.
"""

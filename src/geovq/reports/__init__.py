"""Reports: tables, figures and one HTML page, made from a run folder's files and nothing else."""

from geovq.reports.html import write_report

__all__ = ["write_report"]

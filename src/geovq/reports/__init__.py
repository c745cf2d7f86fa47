"""Reports: tables, figures and one HTML page, made from a run folder's files and nothing else."""

from geovq.reports.html import write_report
from geovq.reports.terminal import summary

__all__ = ["summary", "write_report"]

"""Reports: tables, figures and one HTML page, made from a run folder's files and nothing else."""

from geovq.reports.kinds import summary, write_report

__all__ = ["summary", "write_report"]

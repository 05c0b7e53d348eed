"""Jobs: rows in, rows out, and going on where a job stopped."""

from .job import Job, JobReport
from .options import JobOptions
from .output import layout_of, write_output
from .source import HeadSource
from .whole import replacing

__all__ = ["HeadSource", "Job", "JobOptions", "JobReport", "layout_of", "replacing", "write_output"]

"""Jobs: rows in, rows out, and going on where a job stopped."""

from .job import Job, JobReport
from .options import JobOptions
from .output import write_output

__all__ = ["Job", "JobOptions", "JobReport", "write_output"]

"""promptkit: prompt skeletons kept in git, turned into finished text."""

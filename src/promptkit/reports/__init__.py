"""Reports: costs, caps, comparisons and outage drills."""

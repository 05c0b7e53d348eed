"""Templates: references, variables, rendering, and the folders that hold their versions."""

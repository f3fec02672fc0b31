"""A multi-core server framework for Python: connections outlive the code."""

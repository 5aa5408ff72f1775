"""A course on attention: the lab that its notebooks import, and the engine that grades them."""

__version__ = "0.1.0"

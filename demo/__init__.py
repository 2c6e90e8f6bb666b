"""The whole path on data that the project makes (``make demo``), and the docs' pictures of it."""

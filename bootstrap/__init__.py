"""Install the course. Uses only the standard library and old syntax, so that any Python 3 can run it."""

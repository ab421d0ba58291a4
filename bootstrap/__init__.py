"""Install the course: standard library only, and old syntax, since any Python may be the first to run it."""

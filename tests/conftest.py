"""Property tests check truths, not speed: a slow machine must not fail them."""

from hypothesis import settings

settings.register_profile("course", deadline=None)
settings.load_profile("course")

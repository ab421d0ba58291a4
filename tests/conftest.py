"""Property tests check truths, not speed: a slow machine must not fail them."""

import pytest
from hypothesis import settings

from course_lib.models import ModelManager

settings.register_profile("course", deadline=None)
settings.load_profile("course")


@pytest.fixture
def manager():
    """A manager of models of its own, which holds none at the end."""
    made = ModelManager()
    yield made
    made.unload_all()
    assert made.loaded_models() == [] and made._entries == {}

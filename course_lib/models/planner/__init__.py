"""Predict how much memory a model needs before it is loaded, and which models fit on which GPU."""

from typing import TYPE_CHECKING

from course_lib.lazy import lazy_attributes

if TYPE_CHECKING:
    from course_lib.models.planner.architectures import Architecture
    from course_lib.models.planner.buffers import kv_bytes
    from course_lib.models.planner.context import Context, choose_context
    from course_lib.models.planner.estimate import GIB, Plan, plan
    from course_lib.models.planner.gpus import largest_model, largest_parameters
    from course_lib.models.planner.lookup import architecture
    from course_lib.models.planner.memory import memory_footprint
    from course_lib.models.planner.pictures import PicturePlan, plan_pictures, ways_table

__all__ = [
    "GIB",
    "Architecture",
    "Context",
    "PicturePlan",
    "Plan",
    "architecture",
    "choose_context",
    "kv_bytes",
    "largest_model",
    "largest_parameters",
    "memory_footprint",
    "plan",
    "plan_pictures",
    "ways_table",
]
_MODULES = {
    "Architecture": "architectures",
    "architecture": "lookup",
    "Context": "context",
    "choose_context": "context",
    "GIB": "estimate",
    "Plan": "estimate",
    "kv_bytes": "buffers",
    "plan": "estimate",
    "largest_model": "gpus",
    "largest_parameters": "gpus",
    "memory_footprint": "memory",
    "PicturePlan": "pictures",
    "plan_pictures": "pictures",
    "ways_table": "pictures",
}
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)

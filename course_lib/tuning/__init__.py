"""Change the weights of a model: quantize them to fewer bits, or train a LoRA adapter for them."""

from typing import TYPE_CHECKING

from course_lib.lazy import lazy_attributes

if TYPE_CHECKING:
    from course_lib.tuning.config import Example, LoRATrainingConfig
    from course_lib.tuning.formats import FORMATS, Format, absmax, format_of
    from course_lib.tuning.quantize import relative_error
    from course_lib.tuning.quantized_model import matrices, quantized
    from course_lib.tuning.run_folder import TrainingResult
    from course_lib.tuning.training import train

__all__ = [
    "FORMATS",
    "Example",
    "Format",
    "LoRATrainingConfig",
    "TrainingResult",
    "absmax",
    "format_of",
    "matrices",
    "quantized",
    "relative_error",
    "train",
]
_MODULES = {
    **dict.fromkeys(("Example", "LoRATrainingConfig"), "config"),
    **dict.fromkeys(("FORMATS", "Format", "absmax", "format_of"), "formats"),
    **dict.fromkeys(("matrices", "quantized"), "quantized_model"),
    "relative_error": "quantize",
    "TrainingResult": "run_folder",
    "train": "training",
}
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)

"""Changing the weights of a model: rounding them to few bits, and training LoRA adapters."""

from typing import TYPE_CHECKING

from course_lib.lazy import lazy_attributes

if TYPE_CHECKING:
    from course_lib.tuning.config import Example, LoRATrainingConfig
    from course_lib.tuning.formats import FORMATS, Format, absmax, format_of
    from course_lib.tuning.quantized_model import matrices, quantized
    from course_lib.tuning.rounding_error import block_errors, largest_error, relative_error, snr_db
    from course_lib.tuning.run_folder import TrainingResult
    from course_lib.tuning.training import train

__all__ = [
    "FORMATS",
    "Example",
    "Format",
    "LoRATrainingConfig",
    "TrainingResult",
    "absmax",
    "block_errors",
    "format_of",
    "largest_error",
    "matrices",
    "quantized",
    "relative_error",
    "snr_db",
    "train",
]
_MODULES = {
    **dict.fromkeys(("Example", "LoRATrainingConfig"), "config"),
    **dict.fromkeys(("FORMATS", "Format", "absmax", "format_of"), "formats"),
    **dict.fromkeys(("matrices", "quantized"), "quantized_model"),
    **dict.fromkeys(("block_errors", "largest_error", "relative_error", "snr_db"), "rounding_error"),
    **dict.fromkeys(("TrainingResult",), "run_folder"),
    **dict.fromkeys(("train",), "training"),
}
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)

"""What is done to the weights of a model: here, rounding them to few bits (`quantize` by hand, `formats` by name, `in_model`)."""

from course_lib.tuning.formats import FORMATS, Format, absmax, format_of
from course_lib.tuning.in_model import matrices, quantized
from course_lib.tuning.quantize import block_errors, largest_error, relative_error, snr_db

__all__ = [
    "FORMATS",
    "Format",
    "absmax",
    "block_errors",
    "format_of",
    "largest_error",
    "matrices",
    "quantized",
    "relative_error",
    "snr_db",
]

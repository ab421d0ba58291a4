"""Answer questions from a handbook, and classify messages by similar ones, with a language model.

`prompt` builds the prompts, `pipeline` searches and answers, `classifier`, `baselines` and `finetuned`
predict labels, `neighbours` helps them, and `evaluate` scores all. `answering` and `labelling` are the plain
loops of the earlier chapters; `adapter_datasets` loads the examples of chapter 05.
"""

from typing import TYPE_CHECKING

from course_lib.lazy import lazy_attributes

if TYPE_CHECKING:
    from course_lib.rag.baselines import (
        AveragedClassifier,
        KernelClassifier,
        LinearClassifier,
        LLMClassifier,
    )
    from course_lib.rag.classifier import Classification, NeighbourClassifier, RAGLLMClassifier
    from course_lib.rag.finetuned import FineTunedClassifier
    from course_lib.rag.parts import InParts
    from course_lib.rag.pipeline import Answer, RAGPipeline

__all__ = [
    "Answer",
    "AveragedClassifier",
    "Classification",
    "FineTunedClassifier",
    "InParts",
    "KernelClassifier",
    "LLMClassifier",
    "LinearClassifier",
    "NeighbourClassifier",
    "RAGLLMClassifier",
    "RAGPipeline",
]
_MODULES = {  # name -> module, imported when the name is first used
    "Answer": "pipeline",
    "AveragedClassifier": "baselines",
    "Classification": "classifier",
    "FineTunedClassifier": "finetuned",
    "InParts": "parts",
    "KernelClassifier": "baselines",
    "LLMClassifier": "baselines",
    "LinearClassifier": "baselines",
    "NeighbourClassifier": "classifier",
    "RAGLLMClassifier": "classifier",
    "RAGPipeline": "pipeline",
}
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)

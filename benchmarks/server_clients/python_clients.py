"""Run clients of the Python package index, unmodified, against a server: python python_clients.py URL.

Prints one JSON line per check: its name, and "works" or the error. `tests/serve` tests the clients that the
course depends on; these need an environment of their own, see `__main__.py`.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel

URL, MODEL = sys.argv[1], "haneul-4m"
OPENAI: dict[str, Any] = {"base_url": f"{URL}/v1", "api_key": "none"}
TURNS = [{"role": "user", "content": "Hello, who are you?"}]
os.environ.update(OLLAMA_HOST=URL, OLLAMA_API_BASE=URL, OPENAI_API_KEY="none")


class Form(BaseModel):
    """Whether a branch is open."""

    open: Literal["yes", "no"]


def llama_index_text() -> bool:
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.ollama import Ollama

    model = Ollama(model=MODEL, base_url=URL, request_timeout=60)
    answer = model.chat([ChatMessage(role="user", content="Hello")]).message.content
    return bool(answer and model.complete("Hello").text) and len(list(model.stream_complete("Hello"))) > 1


def llama_index_schema() -> bool:
    from llama_index.core.prompts import PromptTemplate
    from llama_index.llms.ollama import Ollama

    model = Ollama(model=MODEL, base_url=URL, request_timeout=60)
    return isinstance(model.structured_predict(Form, PromptTemplate("Is it open?")), Form)


def llama_index_embed() -> bool:
    from llama_index.embeddings.ollama import OllamaEmbedding

    return len(OllamaEmbedding(model_name="all-minilm", base_url=URL).get_text_embedding("a")) == 384


def litellm_text() -> bool:
    import litellm

    ask: dict[str, Any] = {"messages": TURNS, "api_base": URL}
    whole = [litellm.completion(model=f"{kind}/{MODEL}", **ask) for kind in ("ollama", "ollama_chat")]
    parts = list(litellm.completion(model=f"ollama_chat/{MODEL}", stream=True, **ask))
    options = {"temperature": 0, "frequency_penalty": 0.1}
    more = litellm.completion(
        model=f"openai/{MODEL}", messages=TURNS, api_base=f"{URL}/v1", api_key="none", **options
    )
    return all(reply.choices[0].message.content for reply in (*whole, more)) and len(parts) > 1


def litellm_embed() -> bool:
    import litellm

    reply = litellm.embedding(model="ollama/all-minilm", input=["a"], api_base=URL)
    return len(reply.data[0]["embedding"]) == 384


def llm_text() -> bool:
    import llm

    return bool(llm.get_model(f"ollama/{MODEL}:latest").prompt("Hello", stream=False).text())


def llm_schema() -> bool:
    import llm

    prompt = llm.get_model(f"ollama/{MODEL}:latest").prompt("Is it open?", schema=Form, stream=False)
    return bool(Form.model_validate_json(prompt.text()))


def pydantic_ai_text() -> bool:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.ollama import OllamaProvider

    model = OpenAIChatModel(MODEL, provider=OllamaProvider(base_url=f"{URL}/v1"))
    return bool(Agent(model).run_sync("Hello").output)


def pydantic_ai_schema() -> bool:
    from pydantic_ai import Agent, NativeOutput
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    model = OpenAIChatModel(MODEL, provider=OpenAIProvider(**OPENAI))
    return isinstance(Agent(model, output_type=NativeOutput(Form)).run_sync("Is it open?").output, Form)


def pydantic_ai_tools() -> bool:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    model = OpenAIChatModel(MODEL, provider=OpenAIProvider(**OPENAI))
    return refused(lambda: Agent(model, output_type=Form).run_sync("Is it open?"))


def instructor_schema() -> bool:
    import instructor
    import openai

    client = instructor.from_openai(openai.OpenAI(**OPENAI), mode=instructor.Mode.JSON_SCHEMA)
    return isinstance(client.chat.completions.create(model=MODEL, messages=TURNS, response_model=Form), Form)


def instructor_tools() -> bool:
    import instructor
    import openai

    create = instructor.from_openai(openai.OpenAI(**OPENAI)).chat.completions.create
    return refused(lambda: create(model=MODEL, messages=TURNS, response_model=Form, max_retries=1))


def dspy_text() -> bool:
    import dspy

    model = dspy.LM(f"openai/{MODEL}", api_base=f"{URL}/v1", api_key="none", cache=False)
    return bool(model("Hello")[0])


def refused(call: Callable[[], object]) -> bool:
    """Whether a call fails with Ollama's words."""
    try:
        call()
    except Exception as error:
        return "does not support tools" in str(error)
    return False


CHECKS: dict[str, Callable[[], bool]] = {
    "llama-index-llms-ollama: chat, complete, stream": llama_index_text,
    "llama-index-llms-ollama: JSON schema": llama_index_schema,
    "llama-index-embeddings-ollama: embeddings": llama_index_embed,
    "litellm: chat, stream, either protocol": litellm_text,
    "litellm: embeddings": litellm_embed,
    "llm-ollama: chat": llm_text,
    "llm-ollama: JSON schema": llm_schema,
    "pydantic-ai-slim: chat": pydantic_ai_text,
    "pydantic-ai-slim: JSON schema": pydantic_ai_schema,
    "pydantic-ai-slim: tools are refused": pydantic_ai_tools,
    "instructor: JSON schema": instructor_schema,
    "instructor: tools are refused": instructor_tools,
    "dspy: chat": dspy_text,
}

for name, check in CHECKS.items():
    try:
        result = "works" if check() else "another answer than expected"
    except Exception as error:
        result = f"{type(error).__name__}: {error}"[:300]
    print(json.dumps([name, result]), flush=True)

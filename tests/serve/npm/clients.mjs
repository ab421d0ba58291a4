// Run clients of npm, unmodified, against a server: node clients.mjs URL. Prints one JSON line per check.
import { Ollama } from 'ollama';
import OpenAI from 'openai';
import { ChatOllama, OllamaEmbeddings } from '@langchain/ollama';
import { generateText, streamText, embed, generateObject } from 'ai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { createOllama } from 'ollama-ai-provider-v2';
import { z } from 'zod';

const url = process.argv[2];
const model = 'haneul-4m';
const messages = [{ role: 'user', content: 'Hello, who are you?' }];
const form = z.object({ open: z.enum(['yes', 'no']) });
const schema = { type: 'object', properties: { open: { enum: ['yes', 'no'] } }, required: ['open'] };
const tool = { type: 'function', function: { name: 'f', description: 'x', parameters: { type: 'object', properties: {} } } };

async function collect(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

const ollama = new Ollama({ host: url });
const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
const chat = new ChatOllama({ baseUrl: url, model, temperature: 0 });
const compatible = createOpenAICompatible({ name: 'local', baseURL: `${url}/v1`, supportsStructuredOutputs: true });
const provider = createOllama({ baseURL: `${url}/api` });

const checks = {
  'ollama: generate': async () => (await ollama.generate({ model, prompt: 'Hello' })).response.length > 0,
  'ollama: chat': async () => (await ollama.chat({ model, messages })).done_reason !== undefined,
  'ollama: stream': async () => (await collect(await ollama.chat({ model, messages, stream: true }))).at(-1).eval_count > 0,
  'ollama: JSON schema': async () => 'open' in JSON.parse((await ollama.chat({ model, messages, format: schema })).message.content),
  'ollama: embed': async () => (await ollama.embed({ model: 'all-minilm', input: ['a', 'b'] })).embeddings.length === 2,
  'ollama: list, ps, show, version': async () =>
    (await ollama.list()).models.length > 0 && (await ollama.ps()).models.length > 0 && (await ollama.show({ model })).details.family === 'llama',
  'ollama: pull, copy, create, delete': async () => {
    await ollama.pull({ model: 'haneul-300k:q4_0' });
    await ollama.copy({ source: 'haneul-300k:q4_0', destination: 'npm/copy' });
    await ollama.create({ model: 'npm-own', from: 'npm/copy', system: 'Be brief.' });
    const { response } = await ollama.generate({ model: 'npm-own', prompt: 'Hello' });
    for (const name of ['npm/copy', 'npm-own']) await ollama.delete({ model: name });
    return response.length > 0;
  },
  'ollama: tools are refused': async () =>
    ollama.chat({ model, messages, tools: [tool] }).then(() => false, (e) => e.status_code === 400 && /does not support tools/.test(e.error)),
  'ollama: abort': async () => {
    const stream = await ollama.generate({ model, prompt: 'Hello', stream: true, options: { num_predict: -1 } });
    for await (const _ of stream) { stream.abort(); break; }
    return true;
  },
  'openai: chat': async () => (await openai.chat.completions.create({ model, messages })).usage.completion_tokens > 0,
  'openai: stream': async () => {
    const parts = await collect(await openai.chat.completions.create({ model, messages, stream: true, stream_options: { include_usage: true } }));
    return parts.at(-1).usage.total_tokens > 0 && parts.some((p) => p.choices[0]?.finish_reason);
  },
  'openai: JSON schema': async () => {
    const response_format = { type: 'json_schema', json_schema: { name: 'form', strict: true, schema } };
    const reply = await openai.chat.completions.create({ model, messages, response_format });
    return 'open' in JSON.parse(reply.choices[0].message.content);
  },
  'openai: embeddings': async () => (await openai.embeddings.create({ model: 'all-minilm', input: 'a' })).data[0].embedding.length === 384,
  'openai: logprobs': async () =>
    (await openai.chat.completions.create({ model, messages, logprobs: true, max_tokens: 2 })).choices[0].logprobs.content.length === 2,
  'openai: models': async () => (await openai.models.list()).data.length > 0,
  'openai: tools are refused': async () =>
    openai.chat.completions.create({ model, messages, tools: [tool] }).then(() => false, (e) => e.status === 400),
  'openai: responses are refused': async () => openai.responses.create({ model, input: 'x' }).then(() => false, (e) => e.status === 404),
  '@langchain/ollama: invoke': async () => (await chat.invoke('Hello')).usage_metadata.output_tokens > 0,
  '@langchain/ollama: stream': async () => {
    const parts = await collect(await chat.stream('Hello'));
    const whole = parts.reduce((a, b) => a.concat(b));
    return whole.content.length > 0 && whole.usage_metadata.output_tokens > 0 && Boolean(whole.response_metadata.done_reason);
  },
  '@langchain/ollama: JSON schema': async () => 'open' in (await chat.withStructuredOutput(form, { method: 'jsonSchema' }).invoke('Is it open?')),
  '@langchain/ollama: embeddings': async () =>
    (await new OllamaEmbeddings({ baseUrl: url, model: 'all-minilm' }).embedDocuments(['a', 'b'])).length === 2,
  '@ai-sdk/openai-compatible: text': async () => (await generateText({ model: compatible(model), prompt: 'Hello' })).text.length > 0,
  '@ai-sdk/openai-compatible: stream': async () => {
    const result = streamText({ model: compatible(model), prompt: 'Hello' });
    return (await collect(result.textStream)).length > 0 && Boolean(await result.finishReason);
  },
  '@ai-sdk/openai-compatible: object': async () => 'open' in (await generateObject({ model: compatible(model), schema: form, prompt: 'x' })).object,
  '@ai-sdk/openai-compatible: embed': async () => (await embed({ model: compatible.textEmbeddingModel('all-minilm'), value: 'a' })).embedding.length === 384,
  'ollama-ai-provider-v2: text': async () => (await generateText({ model: provider(model), prompt: 'Hello' })).text.length > 0,
  'ollama-ai-provider-v2: stream': async () => (await collect(streamText({ model: provider(model), prompt: 'Hello' }).textStream)).length > 0,
  'ollama-ai-provider-v2: object': async () => 'open' in (await generateObject({ model: provider(model), schema: form, prompt: 'x' })).object,
  'ollama-ai-provider-v2: embed': async () => (await embed({ model: provider.textEmbeddingModel('all-minilm'), value: 'a' })).embedding.length === 384,
};

for (const [name, check] of Object.entries(checks)) {
  let result;
  try {
    result = (await check()) ? 'works' : 'another answer than expected';
  } catch (error) {
    result = `${error.name}: ${error.message}`.slice(0, 300);
  }
  console.log(JSON.stringify([name, result]));
}
process.exit(0);

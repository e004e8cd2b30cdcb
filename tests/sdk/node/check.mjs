// The official Node client, unmodified, against a running gateway: node check.mjs URL KEY
// Prints one line for each sentence that holds, and fails at the first that does not.
import assert from 'node:assert/strict';
import OpenAI from 'openai';

const [url, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0, timeout: 20_000 });
const model = 'simulated/echo';
const messages = [{ role: 'user', content: 'hi there' }];
const said = '[simulated] hi there';
const tool = (name, properties) => ({
  type: 'function',
  function: { name, parameters: { type: 'object', properties, required: Object.keys(properties) } },
});
const tools = [tool('weather', { city: { type: 'string' } }), tool('time', { zone: { enum: ['CET', 'UTC'] } })];
const ask = (fields = {}, from = client) => from.chat.completions.create({ model, messages, ...fields });

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

const sentences = {
  async 'a plain answer'() {
    const answer = await ask();
    assert.equal(answer.choices[0].message.content, said);
    assert.equal(answer.model, model);
    assert.match(answer._request_id, /^req_/);
  },
  async 'who answered, beside the answer'() {
    const answer = await ask();
    assert.equal(answer._proxy_info.provider, 'simulated');
    assert.equal(answer._proxy_info.request_id, answer._request_id);
    const chunks = await collect(await ask({ stream: true }));
    assert.deepEqual(chunks.flatMap((chunk) => chunk._proxy_info?.provider ?? []), ['simulated']);
    assert.ok(chunks.at(-1)._proxy_info);
  },
  async 'a streamed answer'() {
    const chunks = await collect(await ask({ stream: true }));
    assert.equal(chunks.map((chunk) => chunk.choices[0].delta.content ?? '').join(''), said);
    assert.equal(chunks.at(-1).choices[0].finish_reason, 'stop');
    assert.ok(chunks.every((chunk) => chunk.model === model && !chunk.usage));
  },
  async 'usage at the end of a stream'() {
    const chunks = await collect(await ask({ stream: true, stream_options: { include_usage: true } }));
    assert.equal(chunks.at(-1).usage.completion_tokens, 3);
    assert.deepEqual(chunks.at(-1).choices, []);
  },
  async 'the stream helper'() {
    const stream = client.chat.completions.stream({ model, messages });
    assert.equal(await stream.finalContent(), said);
  },
  async 'tools, required, named and parallel'() {
    const calls = async (fields) => (await ask({ tools, ...fields })).choices[0].message.tool_calls;
    const names = async (fields) => (await calls(fields)).map((call) => call.function.name);
    assert.deepEqual(await names({ tool_choice: 'required' }), ['weather']);
    assert.deepEqual(await names({ tool_choice: 'required', parallel_tool_calls: true }), ['weather', 'time']);
    const [call] = await calls({ tool_choice: { type: 'function', function: { name: 'time' } } });
    assert.deepEqual(JSON.parse(call.function.arguments), { zone: 'CET' });
  },
  async 'tool calls streamed in parts'() {
    const message = await client.chat.completions.stream({ model: 'tools', messages, tools }).finalMessage();
    assert.deepEqual(
      message.tool_calls.map((call) => [call.id, call.function.name, JSON.parse(call.function.arguments)]),
      [['call_a', 'weather', { city: 'Oslo' }], ['call_b', 'time', { zone: 'CET' }]],
    );
  },
  async 'structured output'() {
    const schema = { type: 'object', properties: { sure: { type: 'boolean' } }, required: ['sure'] };
    const format = { type: 'json_schema', json_schema: { name: 'judgement', schema, strict: true } };
    const answer = await ask({ response_format: format });
    assert.deepEqual(JSON.parse(answer.choices[0].message.content), { sure: true });
  },
  async 'several answers, log probabilities'() {
    const answer = await ask({ n: 2, logprobs: true, top_logprobs: 1 });
    assert.deepEqual(answer.choices.map((choice) => choice.index), [0, 1]);
    assert.equal(answer.choices[0].logprobs.content.map((entry) => entry.token).join(''), said);
  },
  async 'text completions'() {
    const answer = await client.completions.create({ model, prompt: 'hi there' });
    assert.equal(answer.choices[0].text, said);
    const chunks = await collect(await client.completions.create({ model, prompt: 'hi there', stream: true }));
    assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(''), said);
  },
  async 'embeddings of texts and tokens'() {
    const vector = async (fields) => (await client.embeddings.create({ model, input: 'hello', ...fields })).data[0].embedding;
    const [usual, floats] = [await vector(), await vector({ encoding_format: 'float' })];
    assert.equal(floats.length, 64);
    assert.ok(usual.every((value, index) => Math.abs(value - floats[index]) < 1e-6));
    assert.equal(typeof (await vector({ encoding_format: 'base64' })), 'string');
    assert.equal((await client.embeddings.create({ model, input: [[1], [2, 3]] })).data.length, 2);
  },
  async 'models, with slashes in their names'() {
    const listed = await collect(client.models.list());
    assert.ok(listed.some((entry) => entry.id === model));
    for (const id of [model, 'org/team/model-1']) assert.equal((await client.models.retrieve(id)).id, id);
  },
  async 'errors have their classes'() {
    const simulated = (error) => () => ask({ simulate: { error } });
    const stranger = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'wrong', maxRetries: 0 });
    const nobody = new OpenAI({ baseURL: 'http://127.0.0.1:9/v1', apiKey, maxRetries: 0 });
    await assert.rejects(ask({}, stranger), OpenAI.AuthenticationError);
    await assert.rejects(ask({ model: 'nope' }), OpenAI.NotFoundError);
    await assert.rejects(ask({ n: 'two' }), (error) => error instanceof OpenAI.BadRequestError && error.param === 'n');
    await assert.rejects(simulated(429), OpenAI.RateLimitError);
    await assert.rejects(simulated(503), OpenAI.InternalServerError);
    await assert.rejects(ask({ simulate: { ttft: 30 } }, client.withOptions({ timeout: 300 })), OpenAI.APIConnectionTimeoutError);
    await assert.rejects(ask({}, nobody), OpenAI.APIConnectionError);
  },
  async 'a stream that breaks raises after what came'() {
    let came = '';
    await assert.rejects(async () => {
      for await (const chunk of await ask({ simulate: { cut_after: 1 }, stream: true })) came += chunk.choices[0].delta.content;
    }, OpenAI.APIError);
    assert.equal(came, '[simulated]');
  },
  async 'a stream that is left'() {
    for await (const _ of await ask({ stream: true, simulate: { tokens: 1000, tokens_per_second: 20 } })) break;
  },
  async 'the raw response'() {
    const { data, response } = await ask().withResponse();
    assert.equal(response.headers.get('x-request-id'), data._request_id);
  },
};

for (const [sentence, holds] of Object.entries(sentences)) {
  await holds();
  console.log(sentence);
}

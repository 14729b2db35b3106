/** Chats, models, completions, usage and parameters. */

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import {
  CALCULATOR, ECHO_URL, EMAIL, MODEL, STANDIN_URL, STRICT_KEY, STRICT_URL, TANDEM_URL, collect, connect,
  eventually, metric, question, textOf,
} from './support.mjs';

const client = connect(TANDEM_URL);

test('chat', async () => {
  const answer = await client.chat.completions.create(question('How are you?'));
  assert.equal(answer.object, 'chat.completion');
  assert.equal(answer.model, MODEL);
  assert.equal(answer.choices[0].message.role, 'assistant');
  assert.match(answer.choices[0].message.content, /How are you\?/);
  assert.equal(answer.choices[0].finish_reason, 'stop');
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  assert.ok(answer._request_id);
});

test('a streamed chat equals the unstreamed answer', async () => {
  const answer = await client.chat.completions.create(question('How are you?'));
  const chunks = await collect(
    await client.chat.completions.create(question('How are you?', [], { stream: true })),
  );
  assert.equal(textOf(chunks), answer.choices[0].message.content);
  assert.ok(chunks.length > 10);
  assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1);
  const roles = chunks.map((chunk) => chunk.choices[0].delta.role).filter(Boolean);
  assert.deepEqual(roles, ['assistant']);
  const reasons = chunks.map((chunk) => chunk.choices[0].finish_reason);
  assert.equal(reasons.pop(), 'stop');
  assert.ok(reasons.every((reason) => reason === null));
});

test('the models are the engine’s', async () => {
  await eventually(async () => (await fetch(`${TANDEM_URL}/ready`)).ok, 'the engine to be discovered');
  const models = (await client.models.list()).data;
  assert.deepEqual(models.map((model) => model.id), [MODEL]);
  assert.equal(models[0].owned_by, 'standin');
  assert.equal((await client.models.retrieve(MODEL)).id, MODEL);
});

test('completions', async () => {
  const request = { model: MODEL, prompt: 'Once upon a time', max_tokens: 5 };
  const answer = await client.completions.create(request);
  assert.equal(answer.object, 'text_completion');
  assert.equal(answer.choices[0].finish_reason, 'length');
  assert.equal(answer.usage.completion_tokens, 5);
  const chunks = await collect(await client.completions.create({ ...request, stream: true }));
  assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(''), answer.choices[0].text);
});

test('responses are relayed', async () => {
  const answer = await client.responses.create({ model: MODEL, input: 'How are you?' });
  assert.match(answer.output_text, /How are you\?/);
});

for (const stream of [false, true]) {
  test(`usage is the engine’s total over all rounds, stream: ${stream}`, async () => {
    const count = () =>
      Promise.all(
        ['prompt', 'generation'].map((kind) => metric(STANDIN_URL, `vllm:${kind}_tokens_total`)),
      );
    const before = await count();
    const request = question('Calculate 6 * 7', [CALCULATOR]);
    let usage;
    if (stream) {
      const options = { stream, stream_options: { include_usage: true } };
      const chunks = await collect(await client.chat.completions.create({ ...request, ...options }));
      usage = chunks.at(-1).usage;
      assert.deepEqual(chunks.at(-1).choices, []);
      assert.ok(chunks.slice(0, -1).every((chunk) => !chunk.usage));
    } else {
      usage = (await client.chat.completions.create(request)).usage;
    }
    const after = await count();
    const counted = after.map((value, index) => value - before[index]);
    assert.deepEqual([usage.prompt_tokens, usage.completion_tokens], counted);
  });
}

test('streamed usage is only sent on request', async () => {
  for (const tools of [[], [CALCULATOR]]) {
    const request = question('Calculate 6 * 7', tools, { stream: true });
    const chunks = await collect(await client.chat.completions.create(request));
    assert.ok(chunks.length > 5);
    assert.ok(chunks.every((chunk) => !chunk.usage));
  }
});

test('the request id is the client’s', async () => {
  const headers = { 'x-request-id': 'order-4711' };
  const { request_id: id } = await client.chat.completions
    .create(question('Hi'), { headers })
    .withResponse();
  assert.equal(id, 'order-4711');
});

test('heartbeats keep a silent stream alive, and the SDK does not see them', async () => {
  const strict = connect(STRICT_URL, { apiKey: STRICT_KEY });
  const request = question('Hi', [], { stream: true, standin: { delay_first: 1 } });
  // Without the heartbeat every 0.2 s, the headers would arrive after 1 s.
  const chunks = await collect(await strict.chat.completions.create(request, { timeout: 600 }));
  assert.equal(chunks[0].choices[0].delta.role, 'assistant');
  assert.equal(chunks.at(-1).choices[0].finish_reason, 'stop');
});

const PARAMETERS = {
  messages: [
    { role: 'developer', content: 'Be brief.', name: 'house' },
    {
      role: 'user',
      content: [{ type: 'text', text: 'Grüße, 世界 \u2028 🚆' }],
      of_no_one: { a: [1, null] },
    },
  ],
  model: MODEL,
  audio: { format: 'wav', voice: 'alloy' },
  frequency_penalty: 0.25,
  function_call: 'none',
  functions: [{ name: 'old', parameters: {} }],
  logit_bias: { 50256: -100 },
  logprobs: true,
  max_completion_tokens: 100,
  max_tokens: 100,
  metadata: { ticket: '4711' },
  modalities: ['text'],
  moderation: { mode: 'off' },
  parallel_tool_calls: false,
  prediction: { type: 'content', content: 'Hello' },
  presence_penalty: -0.5,
  prompt_cache_key: 'tenant-1',
  prompt_cache_options: { ttl: '1h' },
  prompt_cache_retention: '24h',
  reasoning_effort: 'low',
  response_format: { type: 'json_object' },
  safety_identifier: 'user-1',
  seed: 7,
  service_tier: 'auto',
  stop: ['\n\n', 'END'],
  store: false,
  temperature: 0.1,
  tool_choice: 'auto',
  top_logprobs: 3,
  top_p: 0.9,
  user: 'ada',
  verbosity: 'low',
  web_search_options: { search_context_size: 'low' },
};
const UNKNOWN_TO_THE_SDK = {
  top_k: 20,
  chat_template_kwargs: { enable_thinking: false },
  stop_token_ids: null,
  small: 1e-7,
};

for (const [how, tool, n] of [['relayed', EMAIL, 2], ['tools run', CALCULATOR, 1]]) {
  test(`every parameter of the SDK reaches the engine, ${how}`, async () => {
    const request = { ...PARAMETERS, ...UNKNOWN_TO_THE_SDK, tools: [tool], n };
    // With tools of the server, the format is demanded in a last round without tools; see the next test.
    if (tool === CALCULATOR) delete request.response_format;
    const answer = await connect(ECHO_URL).chat.completions.create(request);
    const received = JSON.parse(answer.choices[0].message.content);
    if (tool === CALCULATOR) {
      // Sent with only its name, completed by the server.
      assert.deepEqual(received.tools[0].function.parameters.required, ['expression']);
      received.tools = [tool];
    }
    assert.deepEqual(received, request);
  });
}

test('the format of an answer reaches the engine in a round without tools', async () => {
  const request = { ...PARAMETERS, tools: [CALCULATOR] };
  const answer = await connect(ECHO_URL).chat.completions.create(request);
  const received = JSON.parse(answer.choices[0].message.content);
  assert.deepEqual(received.response_format, PARAMETERS.response_format);
  assert.equal(received.tools, undefined);
});

test('the tests above cover every parameter of the SDK', async () => {
  const types = new URL('./node_modules/openai/resources/chat/completions/completions.d.ts', import.meta.url);
  const [, body] = (await readFile(types, 'utf8')).match(
    /export interface ChatCompletionCreateParamsBase \{\n(.*?)\n\}/s,
  );
  const known = [...body.matchAll(/^ {4}(\w+)\??:/gm)].map((match) => match[1]);
  const elsewhere = ['tools', 'n', 'stream', 'stream_options'];
  assert.deepEqual(known.filter((name) => !elsewhere.includes(name)).sort(), Object.keys(PARAMETERS).sort());
});

/** The SDK's error classes, timeouts and disconnecting clients. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';
import {
  CALCULATOR, ENDLESS, HURRIED_URL, MODEL, STANDIN_URL, STRICT_KEY, STRICT_URL, TANDEM_URL, WEATHER,
  collect, connect, eventually, metric, question, running,
} from './support.mjs';

const client = connect(TANDEM_URL);
const strict = connect(STRICT_URL, { apiKey: STRICT_KEY });

/** The error of that class that the promise is rejected with; the SDK has read all of its body. */
async function refused(promise, kind, status) {
  const error = await promise.then(
    () => assert.fail(`resolved, where ${kind.name} was expected`),
    (reason) => reason,
  );
  assert.equal(error.constructor.name, kind.name, error.stack);
  assert.equal(error.status, status);
  assert.deepEqual(Object.keys(error.error).sort(), ['code', 'message', 'param', 'type']);
  const { type, param, code } = error;
  assert.deepEqual({ type, param, code }, {
    type: error.error.type, param: error.error.param, code: error.error.code,
  });
  assert.ok(error.error.message.length > 20);
  assert.ok(error.message.includes(error.error.message));
  return error;
}

const aborts = () => metric(STANDIN_URL, 'vllm:request_success_total', { finished_reason: 'abort' });
const idle = () => eventually(async () => (await running()) === 0, 'the engine to be free');

test('AuthenticationError for an unknown key, and for none', async () => {
  const stranger = connect(STRICT_URL, { apiKey: 'sk-wrong' });
  const wrong = stranger.chat.completions.create(question('Hi'));
  assert.equal((await refused(wrong, OpenAI.AuthenticationError, 401)).code, 'invalid_api_key');
  const headers = { Authorization: null };
  const none = stranger.chat.completions.create(question('Hi'), { headers });
  const error = await refused(none, OpenAI.AuthenticationError, 401);
  assert.equal(error.code, 'missing_api_key');
  assert.ok(error.requestID);
  assert.ok((await strict.chat.completions.create(question('Hi'))).choices[0].message.content);
});

for (const [param, fields] of Object.entries({
  messages: { messages: [] },
  n: { n: 2, tools: [CALCULATOR] },
  'tools[0].function.name': { tools: [{ type: 'function', function: { name: '' } }] },
  temperature: { temperature: -1 },
  max_tokens: { max_tokens: 10 ** 6 },
})) {
  test(`BadRequestError names ${param}`, async () => {
    const asked = client.chat.completions.create(question('Hi', [], fields));
    assert.equal((await refused(asked, OpenAI.BadRequestError, 400)).param, param);
  });
}

test('NotFoundError for an unknown model names the models', async () => {
  const asked = client.chat.completions.create(question('Hi', [], { model: 'gpt-9' }));
  const error = await refused(asked, OpenAI.NotFoundError, 404);
  assert.equal(error.param, 'model');
  assert.ok(error.message.includes(MODEL));
  const retrieved = await refused(client.models.retrieve('gpt-9'), OpenAI.NotFoundError, 404);
  assert.equal(retrieved.code, 'model_not_found');
});

test('NotFoundError for an unknown route, and for one that the engine lacks', async () => {
  const unknown = await refused(client.files.list(), OpenAI.NotFoundError, 404);
  assert.equal(unknown.code, 'unknown_route');
  assert.match(unknown.message, /Unknown route: GET \/v1\/files; the routes are \/v1\/chat/);
  const embeddings = client.embeddings.create({ model: MODEL, input: 'Hi' });
  const lacking = await refused(embeddings, OpenAI.NotFoundError, 404);
  assert.match(lacking.message, /engine does not serve this route/);
});

test('APIError 413 for a body over the limit', async () => {
  const asked = strict.chat.completions.create(question('x'.repeat(5000)));
  const error = await refused(asked, OpenAI.APIError, 413);
  assert.equal(error.code, 'request_too_large');
  assert.match(error.message, /MAX_BODY_BYTES/);
});

test('RateLimitError for one request too many; the SDK’s own retry gets through', async () => {
  await idle();
  const held = await strict.chat.completions.create(question('Hi', [], { stream: true, standin: ENDLESS }));
  const asked = strict.chat.completions.create(question('Hi'));
  const error = await refused(asked, OpenAI.RateLimitError, 429);
  assert.match(error.message, /MAX_IN_FLIGHT/);
  assert.equal(error.headers.get('retry-after'), '1');

  const refusals = () => metric(STRICT_URL, 'requests_total', { status: '429' });
  const before = await refusals();
  const waiting = connect(STRICT_URL, { apiKey: STRICT_KEY, maxRetries: 2 })
    .chat.completions.create(question('Hi'));
  await eventually(async () => (await refusals()) > before, 'a 429');
  held.controller.abort();
  assert.ok((await waiting).choices[0].message.content);
});

for (const [what, standin, status, code] of [
  ['500 of the engine', { status: 500 }, 502, 'engine_failed'],
  ['cut connection', { cut_after: 0 }, 502, 'engine_failed'],
  ['busy engine', { status: 503 }, 503, 'engine_unavailable'],
]) {
  for (const stream of [false, true]) {
    test(`InternalServerError ${status} for a ${what}, stream: ${stream}`, async () => {
      for (const tools of [[], [CALCULATOR]]) {
        const asked = client.chat.completions.create(
          question('Calculate 6 * 7', tools, { stream, standin }),
        );
        const error = await refused(asked, OpenAI.InternalServerError, status);
        assert.equal(error.code, code);
        assert.match(error.message, /engine/);
        if (status === 503) assert.equal(error.headers.get('retry-after'), '5');
      }
    });
  }
}

test('InternalServerError 504 for an answer that takes too long', async () => {
  const hurried = connect(HURRIED_URL);
  for (const stream of [false, true]) {
    const asked = hurried.chat.completions.create(
      question('Hi', [], { stream, standin: { delay_first: 60 } }),
    );
    const error = await refused(asked, OpenAI.InternalServerError, 504);
    assert.equal(error.code, 'deadline_exceeded');
    assert.match(error.message, /REQUEST_TIMEOUT_SECONDS/);
  }
});

for (const [what, fault] of [
  ['error event from the engine', { error_event_after: 4 }],
  ['cut connection', { cut_after: 4 }],
]) {
  test(`APIError in the middle of a stream, after the preceding chunks: ${what}`, async () => {
    for (const tools of [[], [CALCULATOR]]) {
      const standin = { when: 'answer', ...fault };
      const request = question('Calculate 6 * 7', tools, { stream: true, standin });
      const chunks = [];
      const reading = async () => {
        for await (const chunk of await client.chat.completions.create(request)) chunks.push(chunk);
      };
      const error = await refused(reading(), OpenAI.APIError, undefined);
      assert.equal(error.code, 'engine_failed');
      assert.ok(chunks.some((chunk) => chunk.choices[0].delta.content));
      assert.ok(chunks.every((chunk) => !chunk.choices[0].finish_reason));
    }
  });
}

for (const [round, fault] of [
  ['relayed', {}], ['in the first round', { when: 'call' }], ['in the second round', { when: 'answer' }],
]) {
  test(`APIConnectionTimeoutError frees the engine, ${round}`, async () => {
    await idle();
    const before = await aborts();
    const tools = fault.when ? [WEATHER] : [];
    const standin = { delay_first: 60, ...fault };
    await assert.rejects(
      client.chat.completions.create(question('What is the weather in Oslo?', tools, { standin }), {
        timeout: 500,
      }),
      OpenAI.APIConnectionTimeoutError,
    );
    await eventually(async () => (await aborts()) === before + 1, 'the engine to count an abort');
    assert.equal(await running(), 0);
  });
}

test('a client that abandons its stream, by break or by abort, frees the engine', async () => {
  for (const tools of [[], [WEATHER]]) {
    for (const leave of ['break', 'abort']) {
      await idle();
      const request = question('What is the weather in Oslo?', tools, { stream: true, standin: ENDLESS });
      const stream = await client.chat.completions.create(request);
      for await (const chunk of stream) {
        if (!chunk.choices[0].delta.content) continue;
        assert.equal(await running(), 1);
        if (leave === 'break') break;
        stream.controller.abort();
      }
      await idle();
    }
  }
});

test('APIUserAbortError frees the engine', async () => {
  await idle();
  const controller = new AbortController();
  const asked = client.chat.completions.create(
    question('What is the weather in Oslo?', [WEATHER], { standin: { delay_first: 60 } }),
    { signal: controller.signal },
  );
  const rejected = assert.rejects(asked, OpenAI.APIUserAbortError);
  await eventually(async () => (await running()) === 1, 'the engine to be busy');
  controller.abort();
  await rejected;
  await idle();
});

test('a slow reader loses no part of a stream', async () => {
  const standin = { when: 'answer', chunks: 5000 };
  const request = question('What is the weather in Oslo?', [WEATHER], { stream: true, standin });
  const chunks = await collect(await client.chat.completions.create(request));
  assert.equal(chunks.filter((chunk) => chunk.choices[0].delta.content).length, 5000);
});

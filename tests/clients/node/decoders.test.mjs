/** Heartbeats are invisible to the decoders of Node's clients. The stream has one every 200 ms of silence. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createParser } from 'eventsource-parser';
import { EventSourceParserStream } from 'eventsource-parser/stream';
import { MODEL, STRICT_KEY, STRICT_URL, collect, connect, question, textOf } from './support.mjs';

const SLOW = { standin: { delay_first: 0.7, delay_token: 0.25, chunks: 3 } };

async function stream() {
  const answer = await fetch(`${STRICT_URL}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-api-key': STRICT_KEY },
    body: JSON.stringify(question('Hi', [], { stream: true, ...SLOW })),
  });
  assert.equal(answer.status, 200);
  return answer;
}

function check(payloads) {
  assert.equal(payloads.pop(), '[DONE]');
  const chunks = payloads.map((payload) => JSON.parse(payload));
  assert.ok(chunks.every((chunk) => chunk.model === MODEL));
  assert.ok(textOf(chunks).length > 0);
  assert.equal(chunks.at(-1).choices[0].finish_reason, 'stop');
}

test('eventsource-parser, as the Vercel AI SDK and Open WebUI use it', async () => {
  const events = [];
  const reader = (await stream()).body
    .pipeThrough(new TextDecoderStream())
    .pipeThrough(new EventSourceParserStream({ onError: 'terminate' }));
  for await (const event of reader) events.push(event.data);
  check(events);
});

test('eventsource-parser sees every heartbeat as a comment', async () => {
  const comments = [];
  const events = [];
  const parser = createParser({
    onEvent: (event) => events.push(event.data),
    onComment: (comment) => comments.push(comment.trim()),
    onError: (error) => assert.fail(error),
  });
  parser.feed(await (await stream()).text());
  assert.ok(comments.length >= 3, `${comments.length} heartbeats`);
  assert.deepEqual(new Set(comments), new Set(['keep-alive']));
  check(events);
});

test('openai', async () => {
  const client = connect(STRICT_URL, { apiKey: STRICT_KEY });
  const chunks = await collect(await client.chat.completions.create(question('Hi', [], { stream: true, ...SLOW })));
  assert.ok(textOf(chunks).length > 0);
  assert.equal(chunks.at(-1).choices[0].finish_reason, 'stop');
});

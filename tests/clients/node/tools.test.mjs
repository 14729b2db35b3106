/** Tools that the server runs, tools that the client runs, and both in one turn. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CALCULATOR, EMAIL, TANDEM_URL, WEATHER, collect, connect, metric, question, textOf,
} from './support.mjs';

const client = connect(TANDEM_URL);

// What each question must make the server do and say. The temperatures are sample data.
const SERVER_TOOL_CASES = [
  {
    name: 'weather', asked: 'What is the weather in San Francisco?', tools: [WEATHER],
    calls: { get_current_weather: 1 }, said: ['San Francisco', '14.6 °C'],
  },
  {
    name: 'calculator', asked: 'Calculate 123 * 456', tools: [CALCULATOR],
    calls: { calculate_math: 1 }, said: ['56088'],
  },
  {
    name: 'two cities', asked: 'What is the weather in Paris and in Tokyo?', tools: [WEATHER],
    calls: { get_current_weather: 2 }, said: ['Paris', '12.3 °C', 'Tokyo', '15.4 °C'],
  },
  {
    name: 'both tools', asked: 'What is the weather in Oslo, and what is 12 * 7?',
    tools: [WEATHER, CALCULATOR], calls: { get_current_weather: 1, calculate_math: 1 },
    said: ['Oslo', '5.7 °C', '84'],
  },
];

for (const { name, asked, tools, calls, said } of SERVER_TOOL_CASES) {
  test(`the server runs tools: ${name}`, async () => {
    const count = (tool) => metric(TANDEM_URL, 'tool_calls_total', { tool_name: tool, outcome: 'ok' });
    const names = Object.keys(calls);
    const before = await Promise.all(names.map(count));
    const answer = await client.chat.completions.create(question(asked, tools));
    const { message, finish_reason: reason } = answer.choices[0];
    assert.deepEqual(said.filter((part) => !message.content.includes(part)), []);
    assert.equal(message.tool_calls, undefined);
    assert.equal(reason, 'stop');
    const after = await Promise.all(names.map(count));
    assert.deepEqual(after.map((value, index) => value - before[index]), Object.values(calls));
  });

  test(`the server runs tools within a stream: ${name}`, async () => {
    const request = question(asked, tools, { stream: true, tandem: { events: true } });
    const chunks = await collect(await client.chat.completions.create(request));
    assert.deepEqual(said.filter((part) => !textOf(chunks).includes(part)), []);
    assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1);
    const choices = chunks.flatMap((chunk) => chunk.choices);
    assert.deepEqual(choices.map((choice) => choice.finish_reason).filter(Boolean), ['stop']);
    assert.ok(choices.every((choice) => !choice.delta.tool_calls));
    const finished = {};
    for (const { tandem } of chunks) {
      if (tandem?.type === 'tool_call.finished') finished[tandem.name] = (finished[tandem.name] ?? 0) + 1;
    }
    assert.deepEqual(finished, calls);
  });
}

test('a client tool goes back to the client, and its result becomes the answer', async () => {
  const request = question('Send an email to ada@example.com', [EMAIL]);
  const first = await client.chat.completions.create(request);
  assert.equal(first.choices[0].finish_reason, 'tool_calls');
  const [call] = first.choices[0].message.tool_calls;
  assert.equal(call.function.name, 'send_email');
  assert.deepEqual(JSON.parse(call.function.arguments), { to: 'ada@example.com' });
  const result = { role: 'tool', tool_call_id: call.id, content: 'Delivered to ada@example.com at 12:34.' };
  request.messages.push(first.choices[0].message, result);
  const second = await client.chat.completions.create(request);
  assert.equal(second.choices[0].finish_reason, 'stop');
  assert.match(second.choices[0].message.content, /Delivered to ada@example\.com at 12:34\./);
});

test('the SDK’s own tool runner runs client tools against the server, streamed and not', async () => {
  for (const stream of [false, true]) {
    const sent = [];
    const send = ({ to }) => {
      sent.push(to);
      return `Delivered to ${to} at 12:34.`;
    };
    const tool = { ...EMAIL, function: { ...EMAIL.function, function: send, parse: JSON.parse } };
    const runner = client.chat.completions.runTools(
      question('Send an email to ada@example.com', [tool], { stream }),
    );
    assert.match(await runner.finalContent(), /Delivered to ada@example\.com at 12:34\./);
    assert.deepEqual(sent, ['ada@example.com']);
  }
});

test('of a turn with calls for both sides, the server runs its own, and the client gets the others', async () => {
  const request = question('Send an email to ada@example.com about the weather in Oslo', [WEATHER, EMAIL]);
  const names = (calls) => calls.map((call) => call.function.name);
  const all = await client.chat.completions.create(request, { headers: { 'X-Tool-Execution': 'client' } });
  assert.deepEqual(names(all.choices[0].message.tool_calls), ['get_current_weather', 'send_email']);

  const count = () => metric(TANDEM_URL, 'tool_calls_total', { tool_name: 'get_current_weather', outcome: 'ok' });
  const ran = await count();
  const own = await client.chat.completions.create(request);
  assert.deepEqual(names(own.choices[0].message.tool_calls), ['send_email']);
  assert.equal(own.choices[0].finish_reason, 'tool_calls');
  assert.equal(await count(), ran + 1);
  const chunks = await collect(await client.chat.completions.create({ ...request, stream: true }));
  const deltas = chunks.flatMap((chunk) => chunk.choices[0].delta.tool_calls ?? []);
  assert.deepEqual([...new Set(deltas.map((delta) => delta.index))], [0]);
  assert.equal(deltas[0].function.name, 'send_email');
  const text = deltas.map((delta) => delta.function.arguments ?? '').join('');
  assert.deepEqual(JSON.parse(text), { to: 'ada@example.com' });
  assert.equal(await count(), ran + 2);

  // Both results become the answer, since the id of the client's call carries the server's.
  for (const id of [own.choices[0].message.tool_calls[0].id, deltas[0].id]) {
    const [call] = own.choices[0].message.tool_calls;
    const messages = [
      ...request.messages,
      { role: 'assistant', content: null, tool_calls: [{ ...call, id }] },
      { role: 'tool', tool_call_id: id, content: 'Delivered to ada@example.com at 12:34.' },
    ];
    const answer = await client.chat.completions.create({ ...request, messages });
    assert.equal(answer.choices[0].finish_reason, 'stop');
    assert.match(answer.choices[0].message.content, /5\.7 °C/);
    assert.match(answer.choices[0].message.content, /Delivered to ada@example\.com at 12:34\./);
  }
  assert.equal(await count(), ran + 2);
});

test('the stream helper sees one answer where the server runs tools', async () => {
  const contents = [];
  const helper = client.chat.completions.stream(question('Calculate 6 * 7', [CALCULATOR]));
  helper.on('content', (delta) => contents.push(delta));
  const final = await helper.finalChatCompletion();
  assert.match(contents.join(''), /42/);
  assert.equal(final.choices[0].message.content, contents.join(''));
  assert.equal(final.choices[0].finish_reason, 'stop');
});

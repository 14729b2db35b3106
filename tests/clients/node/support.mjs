/** Shared by the suites: the servers under test, tools and questions. See ../test_node_client.py. */

import assert from 'node:assert/strict';
import OpenAI from 'openai';

export const MODEL = 'Qwen/Qwen2.5-7B-Instruct';
export const { TANDEM_URL, STRICT_URL, HURRIED_URL, ECHO_URL, STANDIN_URL, PROXY_URL, STRICT_KEY } = process.env;

export const WEATHER = { type: 'function', function: { name: 'get_current_weather' } };
export const CALCULATOR = { type: 'function', function: { name: 'calculate_math' } };
export const EMAIL = {
  type: 'function',
  function: {
    name: 'send_email',
    description: 'Send an email',
    parameters: {
      type: 'object',
      properties: { to: { type: 'string', description: 'Email address' } },
      required: ['to'],
    },
  },
};

/** An answer in text that the stand-in engine does not finish in the time of a test. */
export const ENDLESS = { when: 'answer', chunks: 200_000, delay_token: 0.01 };

/** The official client, with only its baseURL changed; it does not retry, so that errors are seen. */
export function connect(url, options = {}) {
  return new OpenAI({ baseURL: `${url}/v1`, apiKey: 'dummy', maxRetries: 0, timeout: 20_000, ...options });
}

export function question(content, tools = [], fields = {}) {
  const request = { model: MODEL, messages: [{ role: 'user', content }], ...fields };
  return tools.length ? { ...request, tools } : request;
}

export async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

export function textOf(chunks) {
  return chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('');
}

/** Returns the number of requests that the stand-in engine is working on. */
export async function running() {
  return (await (await fetch(`${STANDIN_URL}/load`)).json()).server_load;
}

/** Returns the sum of a server's Prometheus samples of that name with at least these labels. */
export async function metric(url, name, labels = {}) {
  const lines = (await (await fetch(`${url}/metrics`)).text()).split('\n');
  return lines
    .filter((line) => line.split(/[ {]/, 1)[0] === name)
    .filter((line) => Object.entries(labels).every(([key, value]) => line.includes(`${key}="${value}"`)))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
}

/** Waits until the condition holds; fails after 10 s, naming what was waited for. */
export async function eventually(condition, what) {
  const until = Date.now() + 10_000;
  while (!(await condition())) {
    assert.ok(Date.now() < until, `waited 10 s for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

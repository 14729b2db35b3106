/** POST /mcp with the official SDK for Node, which the MCP inspector uses too. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { EmptyResultSchema } from '@modelcontextprotocol/sdk/types.js';
import { PROXY_URL, STRICT_KEY, STRICT_URL, TANDEM_URL } from './support.mjs';

const METHOD_NOT_FOUND = -32601;
const INVALID_PARAMS = -32602;
/** What the inspector asks for when its tabs are opened, and this server does not have. */
const TABS = ['resources/list', 'resources/templates/list', 'prompts/list', 'logging/setLevel'];

async function connected(url, key) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const client = new Client({ name: 'tandem-tests', version: '1.0.0' });
  await client.connect(new StreamableHTTPClientTransport(new URL(`${url}/mcp`), { requestInit: { headers } }));
  return client;
}

for (const [way, url, key] of [
  ['without a key', TANDEM_URL, ''],
  ['with a key', STRICT_URL, STRICT_KEY],
  ['through HAProxy', PROXY_URL, STRICT_KEY],
]) {
  test(`lists and calls tools ${way}`, async () => {
    const client = await connected(url, key);
    assert.equal(client.getServerVersion().name, 'tandem');
    assert.deepEqual(client.getServerCapabilities(), { tools: { listChanged: false } });
    await client.ping();

    const { tools } = await client.listTools();
    assert.deepEqual(
      tools.map((tool) => tool.name).sort(), ['calculate_math', 'get_current_weather', 'query_database'],
    );
    for (const tool of tools) assert.equal(tool.inputSchema.type, 'object');

    const product = await client.callTool({ name: 'calculate_math', arguments: { expression: '6*7' } });
    assert.deepEqual(product.structuredContent, { result: 42 });
    assert.deepEqual(product.content, [{ type: 'text', text: '{"result":42}' }]);
    assert.ok(!product.isError);

    const wrong = await client.callTool({ name: 'calculate_math', arguments: { expression: '1/0' } });
    assert.equal(wrong.isError, true);
    assert.match(wrong.content[0].text, /zero/);

    await assert.rejects(client.callTool({ name: 'no_such_tool' }), { code: INVALID_PARAMS });
    for (const method of TABS) {
      await assert.rejects(client.request({ method, params: {} }, EmptyResultSchema), { code: METHOD_NOT_FOUND });
    }
    await client.close();
  });
}

test('calls run side by side', async () => {
  const client = await connected(TANDEM_URL);
  const numbers = [...Array(16).keys()];
  const results = await Promise.all(
    numbers.map((n) => client.callTool({ name: 'calculate_math', arguments: { expression: `${n}*${n}` } })),
  );
  assert.deepEqual(results.map((one) => one.structuredContent.result), numbers.map((n) => n * n));
  await client.close();
});

test('a wrong key is rejected', async () => {
  await assert.rejects(connected(STRICT_URL, 'sk-wrong'), { code: 401 });
});

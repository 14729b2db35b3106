import OpenAI from 'openai';

const client = new OpenAI({ baseURL: process.env.TANDEM ?? 'http://127.0.0.1:8001/v1', apiKey: 'unused' });
const model = process.env.MODEL ?? 'Qwen/Qwen2.5-7B-Instruct';

export async function server_tool(question) {
  const answer = await client.chat.completions.create({
    model,
    messages: [{ role: 'user', content: question }],
    tools: [{ type: 'function', function: { name: 'calculate_math' } }],
    max_tokens: 200,
  });
  return answer.choices[0].message.content;
}

// end of the snippet
import { ANSWER, CLIENT_TOOL, SERVER_TOOL, weatherForecast } from './tools.mjs';

const ask = (messages, options = {}) => client.chat.completions.create({ model, messages, max_tokens: 200, ...options });

export const chat = async question => (await ask([{ role: 'user', content: question }])).choices[0].message.content;

export async function stream(question) {
  const pieces = [];
  const chunks = await ask([{ role: 'user', content: question }], { tools: [SERVER_TOOL], stream: true });
  for await (const chunk of chunks) pieces.push(chunk.choices[0]?.delta.content ?? '');
  return pieces;
}

export async function client_tool(question, tools = [CLIENT_TOOL]) {
  const messages = [{ role: 'user', content: question }];
  for (;;) {
    const { message } = (await ask(messages, { tools })).choices[0];
    if (!message.tool_calls?.length) return message.content;
    messages.push(message);
    for (const call of message.tool_calls) {
      const content = weatherForecast(JSON.parse(call.function.arguments));
      messages.push({ role: 'tool', tool_call_id: call.id, content });
    }
  }
}

export const mixed = question => client_tool(question, [SERVER_TOOL, CLIENT_TOOL]);

export async function structured(question) {
  const response_format = { type: 'json_schema', json_schema: { name: 'answer', schema: ANSWER, strict: true } };
  const answer = await ask([{ role: 'user', content: question }], { tools: [SERVER_TOOL], response_format });
  return answer.choices[0].message.content;
}

export async function responses(question) {
  const tools = [{ type: 'function', name: 'calculate_math' }];
  return (await client.responses.create({ model, input: question, tools, max_output_tokens: 200 })).output_text;
}

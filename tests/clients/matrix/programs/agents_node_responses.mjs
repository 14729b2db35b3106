import { Agent, OpenAIResponsesModel, run, setTracingDisabled, tool } from '@openai/agents';
import OpenAI from 'openai';
import { z } from 'zod';

setTracingDisabled(true);
const client = new OpenAI({ baseURL: process.env.TANDEM ?? 'http://127.0.0.1:8001/v1', apiKey: 'unused' });
const model = new OpenAIResponsesModel(client, process.env.MODEL ?? 'Qwen/Qwen2.5-7B-Instruct');

const weather = tool({
  name: 'weather_forecast',
  description: 'Get the weather',
  parameters: z.object({ location: z.string() }),
  execute: ({ location }) => ({ location, temperature: 21.5, unit: 'celsius', conditions: 'sunny' }),
});

export async function client_tool(question) {
  const agent = new Agent({ name: 'assistant', model, tools: [weather] });
  return (await run(agent, question)).finalOutput;
}

// end of the snippet
import { answer } from './tools.mjs';

const ask = async (question, options = {}) => {
  const agent = new Agent({ name: 'assistant', model, modelSettings: { maxTokens: 200 }, ...options });
  return (await run(agent, question)).finalOutput;
};

export const chat = question => ask(question);

export async function stream(question) {
  const agent = new Agent({ name: 'assistant', model, tools: [weather], modelSettings: { maxTokens: 200 } });
  const pieces = [];
  const result = await run(agent, question, { stream: true });
  for await (const piece of result.toTextStream()) pieces.push(piece);
  return pieces;
}

export const structured = async question =>
  JSON.stringify(await ask(question, { outputType: answer }));

const reason = 'it runs each `function_call` of a response itself, even one that has an output: use Chat Completions';
export const NOT = { server_tool: reason, mixed: reason, responses: reason };

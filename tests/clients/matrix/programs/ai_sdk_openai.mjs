import { createOpenAI } from '@ai-sdk/openai';
import { generateText, stepCountIs, tool } from 'ai';
import { z } from 'zod';

const tandem = createOpenAI({ baseURL: process.env.TANDEM ?? 'http://127.0.0.1:8001/v1', apiKey: 'unused' });
const model = tandem(process.env.MODEL ?? 'Qwen/Qwen2.5-7B-Instruct');

const weather_forecast = tool({
  description: 'Get the weather',
  inputSchema: z.object({ location: z.string() }),
  execute: async ({ location }) => ({ location, temperature: 21.5, unit: 'celsius', conditions: 'sunny' }),
});

export async function client_tool(question) {
  const tools = { weather_forecast };
  return (await generateText({ model, prompt: question, tools, stopWhen: stepCountIs(5) })).text;
}

// end of the snippet
import { Output, streamText } from 'ai';
import { answer } from './tools.mjs';

const ask = (prompt, options = {}) =>
  generateText({ model, prompt, maxOutputTokens: 200, maxRetries: 0, stopWhen: stepCountIs(5), ...options });

export const chat = async question => (await ask(question)).text;

export async function stream(question) {
  const pieces = [];
  const result = streamText({ model, prompt: question, maxOutputTokens: 200 });
  for await (const piece of result.textStream) pieces.push(piece);
  return pieces;
}

export const structured = async question =>
  JSON.stringify((await ask(question, { output: Output.object({ schema: answer }) })).output);

const reason = 'it rejects responses with `function_call_output` items: use the other provider';
export const NOT = { server_tool: reason, mixed: reason, responses: reason };

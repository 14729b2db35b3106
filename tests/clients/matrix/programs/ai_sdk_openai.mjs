import { createOpenAI } from '@ai-sdk/openai';
import { generateText, stepCountIs, tool } from 'ai';
import { z } from 'zod';

const tandem = createOpenAI({ baseURL: process.env.TANDEM ?? 'http://127.0.0.1:8001/v1', apiKey: 'unused' });
const model = tandem(process.env.MODEL ?? 'Qwen/Qwen2.5-7B-Instruct');

// It sends references to stored items unless `store` is false.
const providerOptions = { openai: { store: false } };

// A tool without `execute`: the server has one of this name and runs it.
const calculate_math = tool({
  description: 'Calculate an arithmetic expression',
  inputSchema: z.object({ expression: z.string() }),
});

export async function server_tool(question) {
  return (await generateText({ model, providerOptions, prompt: question, tools: { calculate_math } })).text;
}

// end of the snippet
import { Output, streamText } from 'ai';
import { answer, location, weatherForecast } from './tools.mjs';

const weather_forecast = tool({ description: 'Get the weather', inputSchema: location, execute: weatherForecast });
const common = { model, providerOptions, maxOutputTokens: 200, maxRetries: 0, stopWhen: stepCountIs(5) };
const ask = (prompt, options = {}) => generateText({ ...common, prompt, ...options });

export const chat = async question => (await ask(question)).text;

export async function stream(question) {
  const pieces = [];
  const result = streamText({ ...common, prompt: question, tools: { calculate_math } });
  for await (const piece of result.textStream) pieces.push(piece);
  return pieces;
}

export const client_tool = async question => (await ask(question, { tools: { weather_forecast } })).text;
export const mixed = async question => (await ask(question, { tools: { calculate_math, weather_forecast } })).text;
export const structured = async question =>
  JSON.stringify((await ask(question, { tools: { calculate_math }, output: Output.object({ schema: answer }) })).output);
export const responses = server_tool;

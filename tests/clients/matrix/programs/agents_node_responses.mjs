import { Agent, OpenAIResponsesModel, run, setTracingDisabled, tool } from '@openai/agents';
import OpenAI from 'openai';
import { z } from 'zod';

setTracingDisabled(true);
const client = new OpenAI({ baseURL: process.env.TANDEM ?? 'http://127.0.0.1:8001/v1', apiKey: 'unused' });
const model = new OpenAIResponsesModel(client, process.env.MODEL ?? 'Qwen/Qwen2.5-7B-Instruct');

const calculateMath = tool({
  name: 'calculate_math',
  description: 'Calculate an arithmetic expression',
  parameters: z.object({ expression: z.string() }),
  execute: () => { throw new Error('the server has a tool of this name and runs it'); },
});

export async function server_tool(question) {
  const agent = new Agent({ name: 'assistant', model, tools: [calculateMath] });
  return (await run(agent, question)).finalOutput;
}

// end of the snippet
import { answer, location, weatherForecast } from './tools.mjs';

const weather = tool({ name: 'weather_forecast', description: 'Get the weather', parameters: location, execute: weatherForecast });
const ask = async (question, options = {}) => {
  const agent = new Agent({ name: 'assistant', model, modelSettings: { maxTokens: 200 }, ...options });
  return (await run(agent, question)).finalOutput;
};

export const chat = question => ask(question);

export async function stream(question) {
  const agent = new Agent({ name: 'assistant', model, tools: [calculateMath], modelSettings: { maxTokens: 200 } });
  const pieces = [];
  const result = await run(agent, question, { stream: true });
  for await (const piece of result.toTextStream()) pieces.push(piece);
  return pieces;
}

export const client_tool = question => ask(question, { tools: [weather] });
export const mixed = question => ask(question, { tools: [calculateMath, weather] });
export const structured = async question =>
  JSON.stringify(await ask(question, { tools: [calculateMath], outputType: answer }));
export const responses = server_tool;

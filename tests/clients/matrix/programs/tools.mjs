/** The tools that the programs offer. The server has calculate_math; weather_forecast is the client's own. */
import { z } from 'zod';

export const weatherForecast = ({ location }) =>
  JSON.stringify({ location, temperature: 21.5, unit: 'celsius', conditions: 'sunny' });

export const location = z.object({ location: z.string().describe('The city') });
export const answer = z.object({ answer: z.string() });

export const SERVER_TOOL = { type: 'function', function: { name: 'calculate_math' } };
export const CLIENT_TOOL = {
  type: 'function',
  function: {
    name: 'weather_forecast',
    description: 'Get the weather',
    parameters: {
      type: 'object',
      properties: { location: { type: 'string', description: 'The city' } },
      required: ['location'],
    },
  },
};
export const ANSWER = {
  type: 'object',
  properties: { answer: { type: 'string', maxLength: 40 } },
  required: ['answer'],
  additionalProperties: false,
};

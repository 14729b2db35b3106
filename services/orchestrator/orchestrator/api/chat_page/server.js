// The server's API, with the key of this tab.
import { eventData } from "./events.js";

const KEY = "tandem.key";

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
};

/** An error that the server answered with, in OpenAI's format. */
export class ServerError extends Error {
  constructor(status, error, retryAfter) {
    super(error?.message ?? `The server answered with status ${status}.`);
    this.status = status;
    this.code = error?.code ?? null;
    this.retryAfter = retryAfter;
  }
}

async function request(path, options = {}) {
  const headers = { ...options.headers };
  if (key.get()) headers.authorization = `Bearer ${key.get()}`;
  const response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "same-origin" });
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new ServerError(response.status, body.error, Number(response.headers.get("retry-after")) || null);
}

export const models = async () => (await (await request("v1/models")).json()).data;
export const tools = async () => (await request("v1/tools")).json();

/** Returns today's usage and the limits of the key. */
export const usage = async () => (await request("v1/usage?days=1")).json();

/** Yields the chunks of a streamed answer.
 *
 * Throws a ServerError for an error in the stream, and an Error if the stream ends too early.
 */
export async function* chat(body, signal) {
  const response = await request("v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  for await (const data of eventData(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ServerError(response.status, chunk.error, null);
    yield chunk;
  }
  throw new Error("The connection ended before the answer was complete.");
}

// A request as code that a person can run.

const KEY = "TANDEM_API_KEY";

/** Returns a request's body as a person would write it: without the page's own fields, with images shortened. */
export function shown(body) {
  const { stream_options: _, tandem: __, ...rest } = body;
  return JSON.parse(JSON.stringify(rest), (name, value) =>
    name === "url" && typeof value === "string" && value.startsWith("data:") && value.length > 120
      ? `${value.slice(0, 60)}...`
      : value,
  );
}

export const snippets = {
  curl(body, base) {
    const json = JSON.stringify(shown(body), null, 2).replaceAll("'", "'\\''");
    return [
      `curl -N ${base}/chat/completions \\`,
      `  -H "Authorization: Bearer $${KEY}" \\`,
      "  -H 'Content-Type: application/json' \\",
      `  -d '${json}'`,
    ].join("\n");
  },

  python(body, base) {
    const { stream, ...rest } = shown(body);
    return [
      "import os",
      "from openai import OpenAI",
      "",
      `client = OpenAI(base_url=${JSON.stringify(base)}, api_key=os.environ.get("${KEY}", "none"))`,
      "stream = client.chat.completions.create(",
      ...Object.entries({ ...rest, stream }).map(([name, value]) => `    ${name}=${python(value, "    ")},`),
      ")",
      "for chunk in stream:",
      "    if chunk.choices:",
      '        print(chunk.choices[0].delta.content or "", end="", flush=True)',
    ].join("\n");
  },

  node(body, base) {
    return [
      'import OpenAI from "openai";',
      "",
      `const client = new OpenAI({ baseURL: ${JSON.stringify(base)}, apiKey: process.env.${KEY} ?? "none" });`,
      `const stream = await client.chat.completions.create(${JSON.stringify(shown(body), null, 2)});`,
      "for await (const chunk of stream) {",
      '  process.stdout.write(chunk.choices[0]?.delta.content ?? "");',
      "}",
    ].join("\n");
  },
};

function python(value, indent) {
  const inner = `${indent}    `;
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const [open, close, items] = Array.isArray(value)
    ? ["[", "]", value.map((item) => python(item, inner))]
    : ["{", "}", Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${python(item, inner)}`)];
  return items.length ? `${open}\n${items.map((item) => `${inner}${item},\n`).join("")}${indent}${close}` : open + close;
}

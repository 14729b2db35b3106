// The key's usage and limits.
import { element, find } from "./dom.js";
import * as server from "./server.js";

const number = new Intl.NumberFormat("en");

/** Shows the usage and limits of the key, and everybody's for a key that may see them. */
export async function showUsage() {
  const usage = await server.usage().catch((error) => ({ error }));
  const view = find("usage");
  if (usage.error) view.replaceChildren(element("p", {}, usage.error.message));
  else view.replaceChildren(...tables(usage));
}

function tables(usage) {
  const limits = Object.entries(usage.limits ?? {}).filter(([, value]) => value !== null);
  return [
    element("p", { class: "about" }, `${usage.admin ? "Used by everybody" : "Used by this key"}: ${usage.scope}.`),
    table("Today", ["Key", "Model", "Requests", "Tokens in", "Tokens out", "Tool calls"], usage.data.map(row)),
    limits.length
      ? table("Limits of this key", ["Limit", "Value"], limits.map(([name, value]) => [name.replaceAll("_", " "), text(value)]))
      : element("p", {}, "This key has no limits of its own."),
  ];
}

function row(entry) {
  const { key, model, requests, prompt_tokens, completion_tokens, tool_calls } = entry;
  return [key, model, ...[requests, prompt_tokens, completion_tokens, tool_calls].map(text)];
}

function text(value) {
  if (Array.isArray(value)) return value.join(", ");
  return typeof value === "number" ? number.format(value) : String(value);
}

function table(caption, head, rows) {
  const cells = (tag, values) => values.map((value) => element(tag, tag === "th" ? { scope: "col" } : {}, value));
  return element(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    element(
      "table",
      {},
      element("caption", {}, caption),
      element("thead", {}, element("tr", {}, ...cells("th", head))),
      element("tbody", {}, ...rows.map((values) => element("tr", {}, ...cells("td", values)))),
    ),
  );
}

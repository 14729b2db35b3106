// One answer: what has arrived of it, how long it took, and its view.
import { element, button } from "./dom.js";
import { rendered } from "./markdown.js";

/** An answer while it streams, and afterwards.
 *
 * Its view is a list of parts in the order in which they happened: reasoning, text and tool calls.
 */
export class Answer {
  constructor() {
    this.text = "";
    this.usage = null;
    this.calls = new Map();
    this.begun = performance.now();
    this.first = null;
    this.parts = element("div", { class: "parts" });
    this.footer = element("p", { class: "footer" });
    this.view = element("li", { class: "message answer", "aria-busy": "true" }, this.parts, this.footer);
    this.waiting = element("p", { class: "waiting" }, "Waiting for the model …");
    this.parts.append(this.waiting);
    this.open = null;
  }

  /** Takes a chunk of the stream. */
  take(chunk) {
    if (chunk.usage) this.usage = chunk.usage;
    if (chunk.tandem) this.#toolEvent(chunk.tandem);
    const delta = chunk.choices?.[0]?.delta ?? {};
    const reasoning = delta.reasoning ?? delta.reasoning_content;
    if (reasoning) this.#append("reasoning", reasoning);
    if (delta.content) {
      this.text += delta.content;
      this.#append("text", delta.content);
    }
  }

  waitsFor(reason) {
    if (this.waiting.isConnected) this.waiting.textContent = reason;
  }

  /** Ends the answer. `problem` says why it is incomplete, if it is. */
  end(problem, actions) {
    this.waiting.remove();
    this.view.removeAttribute("aria-busy");
    this.#render();
    for (const call of this.calls.values()) {
      if (call.view.dataset.state === "running") this.#state(call, "stopped", "stopped");
    }
    if (problem) this.view.append(element("p", { class: "problem", role: "alert" }, problem));
    this.footer.textContent = this.#figures();
    this.view.append(element("p", { class: "actions" }, ...actions.map(([name, act]) => button(name, act))));
  }

  #append(kind, text) {
    this.#arrived();
    if (this.open?.kind !== kind) {
      this.#render();
      this.open = { kind, text: "", view: this.#part(kind) };
    }
    this.open.text += text;
    this.frame ??= requestAnimationFrame(() => this.#render());
  }

  #part(kind) {
    const view = element("div", { class: kind });
    this.parts.append(
      kind === "reasoning" ? element("details", { class: "thoughts" }, element("summary", {}, "Reasoning"), view) : view,
    );
    return view;
  }

  #render() {
    cancelAnimationFrame(this.frame);
    this.frame = undefined;
    this.open?.view.replaceChildren(rendered(this.open.text));
  }

  #arrived() {
    this.first ??= performance.now();
    this.last = performance.now();
    this.waiting.remove();
  }

  #toolEvent(event) {
    this.#render();
    this.open = null;
    this.waiting.remove();
    if (event.type === "tool_call.started") {
      const call = toolCall(event);
      this.calls.set(event.id, call);
      this.parts.append(call.view);
    } else if (event.type === "tool_call.finished") {
      const call = this.calls.get(event.id);
      const failed = event.outcome !== "ok";
      this.#state(call, failed ? "failed" : "done", duration(event.seconds) + (failed ? `, ${event.outcome}` : ""));
      call.result.textContent = readable(event.result);
    }
  }

  #state(call, state, text) {
    call.view.dataset.state = state;
    call.status.textContent = text;
  }

  #figures() {
    const figures = [];
    if (this.first) figures.push(`first token after ${duration((this.first - this.begun) / 1000)}`);
    const tokens = this.usage?.completion_tokens;
    const seconds = (this.last - this.first) / 1000;
    if (tokens > 1 && seconds > 0.05) figures.push(`${Math.round(tokens / seconds)} tokens per second`);
    if (this.usage) figures.push(`${this.usage.prompt_tokens} tokens in, ${tokens} out`);
    return figures.join(" · ");
  }
}

function toolCall(event) {
  const status = element("span", { class: "status" }, "running …");
  const result = element("pre", { class: "result", tabindex: "0" }, "…");
  const view = element(
    "details",
    { class: "call", "data-state": "running" },
    element("summary", {}, element("code", {}, event.name), " ", brief(event.arguments), " ", status),
    element("h3", {}, "Arguments"),
    element("pre", { tabindex: "0" }, readable(event.arguments)),
    element("h3", {}, "Result"),
    result,
  );
  return { view, status, result };
}

function brief(json) {
  const text = json.replace(/\s+/g, " ");
  return element("span", { class: "arguments" }, text.length > 60 ? `${text.slice(0, 59)}…` : text);
}

/** Returns JSON with indentation, and any other text as it is. */
function readable(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function duration(seconds) {
  return seconds < 1 ? `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms` : `${seconds.toFixed(1)} s`;
}

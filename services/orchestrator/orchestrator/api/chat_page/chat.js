// The conversation: what was said, and the request that is running.
import { Answer } from "./answer.js";
import { element, find } from "./dom.js";
import * as server from "./server.js";

const SLOW_SECONDS = 3;

/** A conversation with one running request at most.
 *
 * `options` returns the model and the tools of the next request, `waitReason` why it may have to wait;
 * `changed` is called when a request starts (with its body) and when it has ended (with null).
 */
export class Chat {
  constructor({ options, waitReason, changed, needsKey }) {
    this.options = options;
    this.waitReason = waitReason;
    this.changed = changed;
    this.needsKey = needsKey;
    this.messages = [];
    this.running = null;
  }

  /** Adds a question and streams its answer. */
  async send(text, images) {
    const content = images.length
      ? [{ type: "text", text }, ...images.map((url) => ({ type: "image_url", image_url: { url } }))]
      : text;
    this.messages.push({ role: "user", content });
    find("messages").append(
      element(
        "li",
        { class: "message question" },
        ...images.map((url) => element("img", { src: url, alt: "Attached image" })),
        element("p", {}, text),
      ),
    );
    await this.#answer();
  }

  stop() {
    this.running?.abort();
  }

  clear() {
    this.stop();
    this.messages = [];
    find("messages").replaceChildren();
  }

  async #answer() {
    const { messages } = this;
    const body = {
      ...this.options(),
      messages: [...messages],
      stream: true,
      stream_options: { include_usage: true },
      tandem: { events: true },
    };
    const answer = new Answer();
    const running = (this.running = new AbortController());
    find("messages").append(answer.view);
    answer.view.scrollIntoView({ block: "end" });
    this.changed(body);
    const slow = setTimeout(() => answer.waitsFor(this.waitReason()), SLOW_SECONDS * 1000);
    const problem = await this.#stream(answer, body, running);
    clearTimeout(slow);
    if (messages === this.messages) {
      if (answer.text) messages.push({ role: "assistant", content: answer.text });
      answer.end(problem, this.#actions(answer, messages.length - (answer.text ? 1 : 0)));
    }
    if (this.running === running) this.running = null;
    this.changed(null);
  }

  /** Returns what went wrong, or null. */
  async #stream(answer, body, running) {
    try {
      for await (const chunk of server.chat(body, running.signal)) {
        const below = atEnd();
        answer.take(chunk);
        if (below) answer.view.scrollIntoView({ block: "end" });
      }
      return null;
    } catch (error) {
      if (running.signal.aborted) return "Stopped.";
      if (error.status === 401) this.needsKey(error.message);
      return error.retryAfter ? `${error.message} (Try again in ${error.retryAfter} s.)` : error.message;
    }
  }

  #actions(answer, length) {
    const retry = () => {
      if (this.running) return;
      this.messages.length = length;
      while (answer.view.nextSibling) answer.view.nextSibling.remove();
      answer.view.remove();
      this.#answer();
    };
    const copy = ["Copy", () => navigator.clipboard.writeText(answer.text)];
    return answer.text ? [["Retry", retry], copy] : [["Retry", retry]];
  }
}

/** Whether the person reads the end, so that the page follows the answer. */
function atEnd() {
  const page = document.scrollingElement;
  return page.scrollHeight - page.scrollTop - page.clientHeight < 120;
}

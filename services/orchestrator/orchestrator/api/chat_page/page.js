// The page: reads what the person does, and shows what the server says.
import { Chat } from "./chat.js";
import { button, element, find } from "./dom.js";
import { model, onModel, showState, takesImages, waitReason, watchModels } from "./models.js";
import * as server from "./server.js";
import { snippets } from "./snippets.js";
import { showUsage } from "./usage.js";

const MAX_IMAGE_BYTES = 4_000_000;
const EXAMPLES = {
  get_current_weather: "What is the weather in San Francisco?",
  calculate_math: "Calculate 123 * 456",
  query_database: "How many customers does the database have?",
};

let images = [];
let lastBody = null;
let language = "curl";

const chat = new Chat({
  options: () => ({ model: model(), ...(chosenTools().length ? { tools: chosenTools() } : {}) }),
  waitReason,
  changed,
  needsKey: askForKey,
});

function changed(body) {
  if (body) lastBody = body;
  find("send").hidden = Boolean(body);
  find("stop").hidden = !body;
  find("empty").hidden = chat.messages.length > 0;
  showSnippet();
  if (!body) showUsage();
}

function send() {
  const text = find("prompt").value.trim();
  if (chat.running || (!text && !images.length)) return;
  const attached = images;
  images = [];
  showImages();
  find("prompt").value = "";
  fitPrompt();
  notice("");
  chat.send(text, attached);
}

// Tools

function chosenTools() {
  return [...find("tools").querySelectorAll("input:checked")].map((box) => ({
    type: "function",
    function: { name: box.value },
  }));
}

function showTools(tools) {
  find("tools").replaceChildren(
    ...tools.map(({ function: { name, description } }) => {
      const box = element("input", { type: "checkbox", value: name, checked: "" });
      const about = element("span", { class: "about" }, (description ?? "").split("\n")[0]);
      return element("li", {}, element("label", {}, box, element("code", {}, name), about));
    }),
  );
  const names = tools.map((tool) => tool.function.name);
  find("examples").replaceChildren(
    ...Object.entries(EXAMPLES)
      .filter(([name]) => names.includes(name))
      .map(([, text]) => element("li", {}, button(text, () => { find("prompt").value = text; send(); }))),
  );
}

// Key

async function load() {
  watchModels();
  try {
    showTools(await server.tools());
    if (find("key-dialog").open) find("key-dialog").close();
    find("prompt").focus();
    showUsage();
  } catch (error) {
    if (error.status === 401) askForKey(server.key.get() ? error.message : "");
    else notice(error.message);
  }
}

function askForKey(reason) {
  find("key-error").textContent = reason;
  if (!find("key-dialog").open) find("key-dialog").showModal();
  find("key").select();
}

// Images

function showImages() {
  find("images").replaceChildren(
    ...images.map((url, index) =>
      element(
        "li",
        {},
        element("img", { src: url, alt: `Attached image ${index + 1}` }),
        button("Remove", () => { images.splice(index, 1); showImages(); }),
      ),
    ),
  );
}

function showAttach() {
  find("attach").hidden = !takesImages();
  if (takesImages() || !images.length) return;
  images = [];
  showImages();
  notice(`${model()} takes no images.`);
}

function attach(files) {
  for (const file of files) {
    if (file.size > MAX_IMAGE_BYTES) {
      notice(`${file.name} has ${(file.size / 1e6).toFixed(1)} MB; an image may have up to ${MAX_IMAGE_BYTES / 1e6} MB.`);
      continue;
    }
    const reader = new FileReader();
    reader.addEventListener("load", () => { images.push(reader.result); showImages(); });
    reader.readAsDataURL(file);
  }
}

// Details

function showSnippet() {
  const base = new URL("v1", document.baseURI).href;
  find("snippet").textContent = lastBody ? snippets[language](lastBody, base) : "Send a message first.";
}

function chooseLanguage(tab) {
  for (const other of document.querySelectorAll("[role=tab]")) {
    other.setAttribute("aria-selected", String(other === tab));
    other.tabIndex = other === tab ? 0 : -1;
  }
  language = tab.id.replace("tab-", "");
  find("snippet").setAttribute("aria-labelledby", tab.id);
  showSnippet();
}

function moveTab(event) {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step || !tabs.includes(event.target)) return;
  const next = tabs[(tabs.indexOf(event.target) + step + tabs.length) % tabs.length];
  next.focus();
  chooseLanguage(next);
}

function togglePanel() {
  const open = document.body.classList.toggle("with-panel");
  find("panel-toggle").setAttribute("aria-expanded", String(open));
}

function notice(text) {
  find("notice").textContent = text;
}

function fitPrompt() {
  const prompt = find("prompt");
  prompt.rows = Math.min(8, prompt.value.split("\n").length);
}

function listen() {
  find("composer").addEventListener("submit", (event) => { event.preventDefault(); send(); });
  find("prompt").addEventListener("input", fitPrompt);
  find("prompt").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !find("key-dialog").open) chat.stop();
  });
  find("stop").addEventListener("click", () => chat.stop());
  find("new-chat").addEventListener("click", () => { chat.clear(); changed(null); find("prompt").focus(); });
  find("model").addEventListener("change", showState);
  find("attach").addEventListener("click", () => find("image").click());
  find("image").addEventListener("change", ({ target }) => { attach(target.files); target.value = ""; });
  find("panel-toggle").addEventListener("click", togglePanel);
  find("change-key").addEventListener("click", () => askForKey(""));
  find("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    server.key.set(find("key").value.trim());
    find("key").value = "";
    load();
  });
  find("copy").addEventListener("click", () => navigator.clipboard.writeText(find("snippet").textContent));
  for (const tab of document.querySelectorAll("[role=tab]")) tab.addEventListener("click", () => chooseLanguage(tab));
  document.querySelector("[role=tablist]").addEventListener("keydown", moveTab);
}

listen();
onModel(showAttach);
showSnippet();
if (matchMedia("(min-width: 70rem)").matches) togglePanel();
load();

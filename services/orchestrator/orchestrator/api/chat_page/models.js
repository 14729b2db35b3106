// The model picker, with each model's state.
import { element, find } from "./dom.js";
import * as server from "./server.js";

const OFTEN_SECONDS = 10;
const SELDOM_SECONDS = 60;

let known = [];
let timer;
let changed = () => {};

/** Calls `act` whenever the chosen model, or what is known of it, may have changed. */
export function onModel(act) {
  changed = act;
}

/** Reads the models again and again: often while one is not up. */
export async function watchModels() {
  clearTimeout(timer);
  try {
    known = (await server.models()).filter(answersChats);
    show();
  } catch (error) {
    find("model-state").textContent = error.message;
  }
  const settled = known.length > 0 && known.every((model) => stateOf(model) === "");
  timer = setTimeout(watchModels, 1000 * (settled ? SELDOM_SECONDS : OFTEN_SECONDS));
}

/** Of a single model, the server does not state the kind. */
const answersChats = ({ tandem: { kind = "chat" } = {} }) => kind === "chat" || kind === "vision";

export const model = () => find("model").value;

/** Returns whether the chosen model takes images. */
export const takesImages = () => chosen()?.tandem?.takes_images === true;

const chosen = () => known.find((entry) => entry.id === model());

/** Returns why an answer of the chosen model may take a while. */
export function waitReason() {
  const state = chosen() ? stateOf(chosen()) : "";
  return state ? `The model is ${state}. The answer comes once it is up.` : "Still waiting for the model …";
}

function show() {
  const picker = find("model");
  const before = picker.value;
  picker.replaceChildren(
    ...known.map((entry) => element("option", { value: entry.id }, [entry.id, stateOf(entry)].filter(Boolean).join(" — "))),
  );
  if (known.some((entry) => entry.id === before)) picker.value = before;
  showState();
}

export function showState() {
  const state = chosen() ? stateOf(chosen()) : "";
  find("model-state").textContent = state || (chosen() ? "up" : "");
  find("model-state").dataset.state = state ? "waiting" : "up";
  changed();
}

/** Returns what keeps a model from answering at once, or an empty text. */
function stateOf({ tandem: { state, expected_seconds: expected, remaining_seconds: remaining } = {} }) {
  if (state === "starting") return ["starting", about(remaining ?? expected)].filter(Boolean).join(", ");
  if (state === "sleeping") return ["asleep", about(expected) && `wakes up in ${about(expected)}`].filter(Boolean).join(", ");
  return state === "down" ? "down" : "";
}

/** Returns a duration in words, or an empty text for one that is not known. */
function about(seconds) {
  if (!Number.isFinite(seconds)) return "";
  return seconds < 90 ? `about ${seconds} s` : `about ${Math.round(seconds / 60)} minutes`;
}

// Text of the model as HTML. It may come from anyone, so nothing in it can act.
import { marked } from "./vendor/marked.esm.js";
import DOMPurify from "./vendor/purify.es.mjs";

const ALLOWED = {
  ALLOWED_TAGS: [
    "a", "b", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "li", "ol",
    "p", "pre", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul",
  ],
  ALLOWED_ATTR: ["href", "title", "start", "align"],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    node.setAttribute("rel", "noopener noreferrer nofollow");
    node.setAttribute("target", "_blank");
  }
});

// An image would be loaded from an address that the model chose, with what it knows in the address.
const renderer = {
  image: ({ href, text }) => `<a href="${escaped(href)}">${escaped(text || href)}</a>`,
  html: ({ text }) => escaped(text),
};
marked.use({ gfm: true, breaks: true, renderer });

function escaped(text) {
  const names = { "&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "#39" };
  return text.replace(/[&<>"']/g, (character) => `&${names[character]};`);
}

/** Returns the text as a DocumentFragment without scripts, images, forms or styles. */
export function rendered(text) {
  return DOMPurify.sanitize(marked.parse(text), ALLOWED);
}

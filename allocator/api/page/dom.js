// Elements, and words for people. Nothing here, or anywhere on this page, makes HTML out of text.

const SVG = "http://www.w3.org/2000/svg";

/** The element of this id. */
export const at = (id) => document.getElementById(id);

/** A new element: properties (`class` and `aria-…` too), then children, which are elements or texts. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** The shape that goes with a state; its word stands beside it. */
export function shape(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", `shape ${name}`);
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#shape-${name}`);
  svg.append(use);
  return svg;
}

/** Text with what cannot be seen, or turns the writing around, spelt out: a name must not look like another one. */
export function visible(text) {
  return String(text).replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, (one) => {
    return `⟨U+${one.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
  });
}

/** A text of others, apart from the direction of the writing around it. */
export const foreign = (text, properties = {}) => make("bdi", properties, visible(text));

/** 1234567 as 1.2 MB. */
export function bytes(count) {
  if (count < 1000) return `${count} B`;
  const power = Math.min(Math.floor(Math.log10(count) / 3), 5);
  const scaled = count / 1000 ** power;
  return `${scaled.toFixed(scaled < 9.95 ? 1 : 0)} ${["", "kB", "MB", "GB", "TB", "PB"][power]}`;
}

/** 1 file, 2 files. */
export const counted = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

/** An instant in the reader's own time. */
export const when = (iso) => new Date(iso).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });

/** The order of names: 2 before 10. */
export const order = new Intl.Collator("en", { numeric: true }).compare;

/** Resolves after this long. */
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Tell those who do not see the page. */
export function announce(text) {
  at("announce").textContent = text;
}

// The elements of a page, and texts for people.

export const byId = (id) => document.getElementById(id);

/// Sets the text of an element, if it is another one.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/// A new element with these properties and this content.
export function make(name, properties = {}, ...content) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...content);
  return element;
}

export const grouped = (number) => number.toLocaleString("en");
export const percent = (value) => `${Math.round(value)} %`;

/// Microseconds, as milliseconds or seconds.
export function time(us) {
  if (us < 1e6) return `${Math.round(us / 1e3)} ms`;
  return us < 1e8 ? `${(us / 1e6).toFixed(1)} s` : `${Math.round(us / 1e6)} s`;
}

/// A number of bytes in a unit that makes it short.
export function bytes(count) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  const unit = Math.min(Math.floor(Math.log2(Math.max(count, 1)) / 10), units.length - 1);
  const value = count / 1024 ** unit;
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${units[unit]}`;
}

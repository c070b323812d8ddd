export const byId = (id) => document.getElementById(id);

/// Sets the text of an element, if it is another one.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Access to the document. Sets text only as text, never as HTML, and skips unchanged values, since most repaints
// change little.

/** A new element with its class and children; a string child is text. */
export function element(tag, className = "", ...children) {
  const node = document.createElement(tag);
  if (className !== "") node.className = className;
  node.append(...children);
  return node;
}

export function byId(id) {
  return document.getElementById(id);
}

export function setText(node, text) {
  const wanted = String(text);
  if (node.textContent !== wanted) node.textContent = wanted;
}

export function setClass(node, className) {
  if (node.className !== className) node.className = className;
}

export function setTitle(node, title) {
  if (node.title !== title) node.title = title;
}

export function setData(node, name, value) {
  if (node.dataset[name] !== value) node.dataset[name] = value;
}

/** Sets a count for the style sheet. */
export function setCount(node, count) {
  if (node.style.getPropertyValue("--count") !== String(count)) node.style.setProperty("--count", String(count));
}

/** Sets a share from 0 to 1 for the style sheet, through the object model, which the content security policy allows. */
export function setShare(node, share) {
  const wanted = String(Math.round(Math.min(1, Math.max(0, share)) * 1_000) / 1_000);
  if (node.style.getPropertyValue("--share") !== wanted) node.style.setProperty("--share", wanted);
}

// Access to the document. The setters never interpret text as HTML, and skip unchanged values, since most repaints
// change little.

/** A new element with this class and these children; a string child becomes a text node. */
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

/** Sets a CSS variable through the object model, since the content security policy blocks inline styles. */
export function setVariable(node, name, value) {
  const wanted = String(value);
  if (node.style.getPropertyValue(name) !== wanted) node.style.setProperty(name, wanted);
}

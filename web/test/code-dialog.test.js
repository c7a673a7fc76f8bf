import assert from "node:assert/strict";
import test from "node:test";
import { showCode } from "../js/code-dialog.js";

/** An element that finds its descendants by tag. It has only what the dialog uses. */
class FakeElement extends EventTarget {
  children = [];
  textContent = "";
  open = false;
  #attributes = new Map();

  constructor(tag) {
    super();
    this.tag = tag;
  }

  append(...children) {
    this.children.push(...children);
  }

  setAttribute(name, value) {
    this.#attributes.set(name, value);
  }

  getAttribute(name) {
    return this.#attributes.get(name);
  }

  querySelector(tag) {
    return this.children.find((child) => child.tag === tag);
  }

  showModal() {
    this.open = true;
  }

  close() {
    this.open = false;
  }
}

const nodes = {
  "join-address": { href: "http://192.168.1.5:8080/join.html" },
  "join-code": Object.assign(new EventTarget(), { src: "http://192.168.1.5:8080/api/join.svg?url=x", hidden: true }),
  "join-local": { hidden: true },
};
const body = new FakeElement("body");
globalThis.document = Object.assign(new EventTarget(), {
  body,
  getElementById: (id) => nodes[id],
  createElement: (tag) => new FakeElement(tag),
});

const pressed = (key, more = {}) => Object.assign(new Event("keydown"), { key, repeat: false, ...more });

test("one dialog shows the code, if it has loaded, and the address without its scheme", () => {
  showCode((key) => key);
  const [dialog, ...others] = body.children;
  assert.deepEqual([others.length, dialog.open, dialog.querySelector("img").hidden], [0, true, true]);
  assert.equal(dialog.querySelector("strong").textContent, "192.168.1.5:8080/join.html");
  assert.equal(dialog.querySelector("p").hidden, true);
  assert.equal(dialog.getAttribute("aria-labelledby"), dialog.querySelector("h2").id);
  dialog.querySelector("button").dispatchEvent(new Event("click"));
  assert.equal(dialog.open, false);

  [nodes["join-code"].hidden, nodes["join-local"].hidden] = [false, false];
  showCode((key) => key);
  assert.deepEqual([body.children.length, dialog.open], [1, true]);
  assert.deepEqual([dialog.querySelector("img").src, dialog.querySelector("img").hidden], [nodes["join-code"].src, false]);
  assert.equal(dialog.querySelector("p").hidden, false);
});

test("a code that loads while the dialog is open appears in it", () => {
  const code = nodes["join-code"];
  code.hidden = true;
  showCode((key) => key);
  const image = body.children[0].querySelector("img");
  assert.equal(image.hidden, true);
  [code.src, code.hidden] = [`${code.src}&again`, false];
  code.dispatchEvent(new Event("load"));
  assert.deepEqual([image.src, image.hidden], [code.src, false]);
});

test("wherever the focus is, the key that opens the dialog closes it, but not while it is still held down", () => {
  showCode((key) => key);
  const [dialog] = body.children;
  for (const held of [pressed("q", { repeat: true }), pressed("c")]) document.dispatchEvent(held);
  assert.equal(dialog.open, true);
  document.dispatchEvent(pressed("Q"));
  assert.equal(dialog.open, false);
});

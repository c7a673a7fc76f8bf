import assert from "node:assert/strict";
import test from "node:test";
import { RoomView } from "../js/room-view.js";

const node = (tag) => ({
  tag,
  children: [],
  hidden: false,
  append(...children) {
    this.children.push(...children);
  },
  replaceChildren(...children) {
    this.children = children;
  },
  setAttribute(name, value) {
    this[name] = value;
  },
});

test("the smiles from the room are hidden until there is one, and are plain text with the names of the senders", () => {
  const tagline = node("div");
  globalThis.document = { createElement: node, getElementById: () => tagline };
  const view = new RoomView({ translate: (key) => key });
  const [box] = tagline.children;
  const [title, list] = box.children;
  assert.deepEqual([title.children, list["aria-labelledby"]], [["room.title"], title.id]);
  view.paint([]);
  assert.equal(box.hidden, true);
  view.paint([{ from: "zoe", smile: "😎" }, { from: "ada", smile: "<b>" }]);
  assert.equal(box.hidden, false);
  assert.deepEqual(list.children.map(({ tag, children }) => [tag, children]), [["li", ["😎 zoe"]], ["li", ["<b> ada"]]]);
  view.paint([]);
  assert.equal(box.hidden, true, "the next run shows the smiles of the last one");
});

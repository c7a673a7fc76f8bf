import assert from "node:assert/strict";
import test from "node:test";
import { Format } from "../js/format.js";
import { translator } from "../js/i18n.js";
import { NO_TIMELINE, sampled } from "../js/timeline.js";
import { TimelineView } from "../js/timeline-view.js";
import { ENGLISH } from "../js/words-en.js";

class Node {
  attributes = {};
  heard = {};
  open = false;
  style = { setProperty: () => {} };
  append() {}
  addEventListener(type, listener) {
    this.heard[type] = listener;
  }
  setAttribute(name, value) {
    this.attributes[name] = value;
  }
}

/** A timeline with one sample a second, from and to these seconds. */
function running(from, to, before = NO_TIMELINE, replicas = () => []) {
  let timeline = before;
  for (let second = from; second <= to; second += 1) {
    const totals = { successes: 100 * second, overloads: 0 };
    timeline = sampled(timeline, { at: 1_000 * second, ...totals, replicas: replicas(second) });
  }
  return timeline;
}

/** A view of this width, with functions that press a key, move the pointer, and read the cursor. */
function shown({ width }) {
  const nodes = new Map();
  const byId = (id) => nodes.get(id) ?? nodes.set(id, new Node()).get(id);
  const parent = { clientWidth: width };
  let line = null;
  const context = new Proxy({}, {
    get: (target, name) => {
      if (name !== "fillRect") return () => {};
      return (x, y, thickness) => {
        if (target.fillStyle === "ink" && thickness === 1) line = x;
      };
    },
    set: (target, name, value) => Reflect.set(target, name, value),
  });
  const canvas = Object.assign(byId("timeline"), { parentElement: parent, getContext: () => context });
  const colours = { "--plot-height": "150" };
  const style = { fontSize: "16px", fontFamily: "x", getPropertyValue: (name) => colours[name] ?? name.slice(2) };
  let resize = null;
  Object.assign(globalThis, {
    document: { getElementById: byId, createElement: () => new Node(), documentElement: {}, body: {} },
    ResizeObserver: class {
      constructor(run) {
        resize = run;
      }
      observe() {}
    },
    addEventListener: () => {},
    matchMedia: () => new Node(),
    getComputedStyle: () => style,
    devicePixelRatio: 1,
  });
  const view = new TimelineView({ translate: translator(ENGLISH), format: new Format("en"), hueOf: () => 0 });
  const number = (name) => Number(canvas.attributes[`aria-${name}`]);
  return {
    paint(timeline) {
      line = null;
      view.paint(timeline);
    },
    press: (key) => canvas.heard.keydown({ key, preventDefault: () => {} }),
    point: (offsetX) => canvas.heard.pointermove({ offsetX }),
    resize(to) {
      parent.clientWidth = to;
      line = null;
      resize();
    },
    get cursor() {
      return { now: number("valuenow"), least: number("valuemin"), isInside: line >= Math.round(view.layout.left) };
    },
    get hasLine() {
      return line !== null;
    },
    get text() {
      return canvas.attributes["aria-valuetext"];
    },
  };
}

test("the cursor stays in the plot when its moment leaves the plot", () => {
  for (const place of [(view) => view.press("Home"), (view) => view.point(0)]) {
    const view = shown({ width: 900 });
    const before = running(0, 180);
    view.paint(before);
    place(view);
    assert.deepEqual(view.cursor, { now: -180, least: -180, isInside: true });
    view.paint(running(181, 420, before));
    assert.deepEqual(view.cursor, { now: -180, least: -180, isInside: true });
    assert.match(view.text, /^3 min 0 s ago/);
  }
});

test("on a narrow page, the keys and the pointer reach the samples of the plot only", () => {
  const view = shown({ width: 400 });
  view.paint(running(0, 180));
  assert.equal(view.cursor.least, -90);
  for (const move of [() => view.press("Home"), () => view.press("PageDown"), () => view.point(0)]) {
    move();
    assert.deepEqual(view.cursor, { now: -90, least: -90, isInside: true });
  }
  view.press("ArrowRight");
  assert.equal(view.cursor.now, -89);
});

test("the cursor stays in the plot when the page becomes narrow, and disappears when the run is forgotten", () => {
  const view = shown({ width: 900 });
  view.paint(running(0, 180));
  view.press("Home");
  view.resize(400);
  assert.deepEqual(view.cursor, { now: -90, least: -90, isInside: true });
  view.paint(NO_TIMELINE);
  assert.deepEqual([view.hasLine, view.cursor.now, view.text], [false, 0, "Nothing has happened yet."]);
});

test("the reading names a lost replica only if the replica has a lane", () => {
  const view = shown({ width: 900 });
  const replica = (id, state, sessions = 0) => ({ id, state, sessions });
  const stateAt = (second) => (second < 5 ? "ready" : "lost");
  const others = [replica("be.0", "lost"), replica("be.2", "ready", 20)];
  const replicas = (second) => [replica("be.1", stateAt(second)), ...others];
  view.paint(running(0, 10, NO_TIMELINE, replicas));
  assert.equal(view.text, "now · 100.0 successes/s · 0.0 overload errors/s · be.1: lost · be.2: 20");
});

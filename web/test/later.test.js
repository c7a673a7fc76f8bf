import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

/** Loads the code with this behaviour of the link. Returns it with the link's requests and the timers. */
async function loaded(name, answer) {
  const requests = [];
  const timers = [];
  globalThis.setTimeout = (run, ms) => timers.push({ run, ms });
  const append = (link) => {
    requests.push(link);
    queueMicrotask(() => answer(link, timers));
  };
  globalThis.document = { createElement: () => ({}), head: { append } };
  const later = await import(`../js/later.js?${name}`);
  assert.ok("CrashesView" in later);
  return { requests, timers };
}

test("the views wait for their styles", async () => {
  const { requests: [link, ...others] } = await loaded("whole", ({ onload }) => onload());
  assert.deepEqual([link.rel, others], ["stylesheet", []]);
  assert.ok(readFileSync(new URL(link.href), "utf8").includes(".thread"));
});

test("the views work without their styles, which are requested until they load", async () => {
  const { requests, timers } = await loaded("failed", ({ onerror }) => onerror());
  for (const attempts of [1, 2, 3]) {
    assert.equal(requests.length, attempts);
    timers.pop().run();
    await null;
  }
});

test("the views do not wait longer than 2 s for styles that neither load nor fail", async () => {
  await loaded("silent", (_, timers) => timers.find(({ ms }) => ms <= 2_000)?.run());
});

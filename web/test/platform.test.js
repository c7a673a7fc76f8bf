import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { ENGLISH } from "../js/words-en.js";
import { ITALIAN } from "../js/words-it.js";
import { GONE_AFTER_MS, Platform } from "../js/platform.js";

const ONE = [{ id: "be1.1", state: "ready" }];
const TWO = [...ONE, { id: "be2.1", state: "draining" }];

class FakeStorage {
  #values = new Map();

  getItem(key) {
    return this.#values.get(key) ?? null;
  }

  setItem(key, value) {
    this.#values.set(key, value);
  }
}

function platformThat(answer, storage = new FakeStorage()) {
  const platform = new Platform({ storage });
  platform.seen({ replicas: ONE, ...answer });
  return platform;
}

test("a missing or unknown platform is not shown", () => {
  for (const told of [undefined, "nomad", "constructor"]) {
    const platform = platformThat({ platform: told });
    assert.equal(platform.name, null);
    assert.equal(platform.revival({ mode: "exit", silentFor: GONE_AFTER_MS }), null);
    assert.equal(platform.heals, false);
  }
});

test("every platform, crash mode and stage has words in both languages", () => {
  const modes = [...readFileSync(new URL("../index.html", import.meta.url), "utf8").matchAll(/<option value="([a-z]+)"/g)];
  assert.deepEqual(modes.map(([, mode]) => mode), ["exit", "hang", "unready"]);
  for (const name of ["process", "compose", "swarm", "kubernetes"]) {
    const platform = platformThat({ platform: name });
    for (const [, mode] of modes) {
      for (const silentFor of [null, 0, GONE_AFTER_MS]) {
        const { key } = platform.revival({ mode, silentFor });
        for (const dictionary of [ENGLISH, ITALIAN]) assert.ok(Object.hasOwn(dictionary, key), `${key} has no words`);
      }
    }
  }
});

test("on Compose a crashed backend stays down, and the page shows the command that restarts it", () => {
  const platform = platformThat({ platform: "compose" });
  const command = "docker compose up -d";
  const before = { key: "revival.compose.exit", command, mood: "calm" };
  assert.deepEqual(platform.revival({ mode: "exit", silentFor: null }), before);
  const gone = { key: "gone.compose.exit", command, mood: "bad" };
  assert.deepEqual(platform.revival({ mode: "exit", silentFor: GONE_AFTER_MS }), gone);
  assert.deepEqual(platform.revival({ mode: "unready", silentFor: GONE_AFTER_MS }), gone);
  const hangs = platform.revival({ mode: "hang", silentFor: GONE_AFTER_MS });
  assert.deepEqual(hangs, { key: "gone.compose.hang", command: "docker compose restart backend", mood: "bad" });
});

test("a backend that restarts quickly does not count as down", () => {
  const platform = platformThat({ platform: "compose" });
  assert.equal(platform.revival({ mode: "exit", silentFor: GONE_AFTER_MS - 1 }).mood, "calm");
});

test("after a scale-up, the command does not stop the other replicas", () => {
  const commandOf = (platform) => platform.revival({ mode: "exit", silentFor: null }).command;
  const platform = platformThat({ platform: "compose", replicas: TWO });
  platform.seen({ platform: "compose", replicas: [ONE[0], { id: "be2.1", state: "lost" }] });
  assert.equal(commandOf(platform), "docker compose start backend");
  const restarted = platformThat({ platform: "compose", replicas: [{ id: "be1.0", state: "lost" }, ...ONE] });
  assert.equal(commandOf(restarted), "docker compose up -d");
  const moved = platformThat({ platform: "swarm", replicas: TWO });
  moved.seen({ platform: "compose", replicas: ONE });
  assert.equal(commandOf(moved), "docker compose up -d", "the replicas of another platform counted");
});

test("Swarm and Kubernetes restart crashed replicas, and the page says so", () => {
  for (const name of ["swarm", "kubernetes"]) {
    const platform = platformThat({ platform: name });
    assert.equal(platform.revival({ mode: "exit", silentFor: null }).command, null);
    assert.notEqual(platform.revival({ mode: "unready", silentFor: null }).command, null);
    const gone = platform.revival({ mode: "exit", silentFor: GONE_AFTER_MS });
    assert.deepEqual(gone, { key: `gone.${name}`, command: null, mood: "doubt" });
    assert.equal(platform.heals, true);
  }
  for (const name of ["process", "compose"]) assert.equal(platformThat({ platform: name }).heals, false);
});

test("a known platform is kept after a reload and after an answer from an older replica", () => {
  const storage = new FakeStorage();
  const links = [{ name: "Visualizer", url: "http://h:8090/" }];
  const platform = platformThat({ platform: "compose", links, replicas: TWO }, storage);
  platform.seen({ replicas: ONE });
  assert.deepEqual([platform.name, platform.links], ["compose", links]);
  const reloaded = new Platform({ storage });
  assert.deepEqual([reloaded.name, reloaded.links], ["compose", links]);
  assert.equal(reloaded.revival({ mode: "exit", silentFor: GONE_AFTER_MS }).command, "docker compose start backend");
  reloaded.seen({ platform: "swarm", replicas: ONE });
  assert.deepEqual([reloaded.name, reloaded.links], ["swarm", []]);
});

test("an invalid stored platform is ignored", () => {
  for (const kept of ["{", "null", '{"name":"nomad","links":[]}', '{"name":"compose"}']) {
    const storage = new FakeStorage();
    storage.setItem("smilingchat.platform", kept);
    assert.equal(new Platform({ storage }).name, null, `a platform was read from ${kept}`);
  }
});

test("only http and https links are shown", () => {
  const good = { name: "Grafana", url: "https://h/d?a=b" };
  const urls = ["javascript:alert(1)", "/here", undefined];
  const bad = [...urls.map((url) => ({ name: "x", url })), { url: "http://h" }, null];
  const storage = new FakeStorage();
  assert.deepEqual(platformThat({ platform: "swarm", links: [...bad, good] }, storage).links, [good]);
  storage.setItem("smilingchat.platform", JSON.stringify({ name: "swarm", links: [...bad, good] }));
  assert.deepEqual(new Platform({ storage }).links, [good]);
});

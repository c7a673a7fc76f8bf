import assert from "node:assert/strict";
import test from "node:test";
import { lastOf } from "../js/crashes.js";
import { Format } from "../js/format.js";
import { translator } from "../js/i18n.js";
import { Model } from "../js/model.js";
import { posterOf } from "../js/poster.js";
import { DEFAULTS } from "../js/settings.js";
import { TabStorage } from "../js/storage.js";
import { ENGLISH } from "../js/words-en.js";
import { FakeBackend, FakeSocket, FakeTimers, seededRandom } from "./support.js";

const PEOPLE = ["anna", "bruno", "carla", "dario"].map((name) => ({ name, face: "🙂" }));

/**
 * A model with a backend of two replicas. The list of replicas shows both as ready until the test changes it. A crash
 * request must have an `Authorization` header equal to `token`, or none if `token` is undefined.
 */
function staged({ token } = {}) {
  const timers = new FakeTimers();
  const random = seededRandom(5);
  const backend = new FakeBackend({ timers, random, replicas: 2 });
  const stage = { timers, backend, replicas: ["be.1", "be.2"].map((id) => ({ id, state: "ready" })), crashed: [], isOnline: true };
  const answers = {
    "/api/users": () => PEOPLE,
    "/api/replicas": () => ({ replicas: stage.replicas, self: "be.1", platform: "compose" }),
    "/api/crash": ({ body, headers }) => {
      if (token !== headers.Authorization) return null;
      stage.crashed.push(JSON.parse(body));
      backend.crash();
      return { replica: "be.1", mode: "exit" };
    },
  };
  let id = 0;
  stage.model = new Model({
    environment: {
      timers,
      random,
      nextId: () => `id-${(id += 1)}`,
      dialQueue: { enter: (dial) => (dial(), () => {}) },
      urlFor: (user, resume) => `ws://h/ws?${new URLSearchParams({ user, ...resume })}`,
      openSocket: (url) => (stage.isSilent ? new FakeSocket(url) : backend.openSocket(url)),
    },
    pageUrl: "http://h/",
    fetch: async (url, options) => {
      if (stage.isCut) throw new TypeError("Failed to fetch");
      const answer = answers[url.pathname](options);
      return { ok: answer !== null, status: 401, headers: new Headers(), text: async () => JSON.stringify(answer) };
    },
    storage: new TabStorage(() => null),
    browser: { isOnline: () => stage.isOnline, isHidden: () => false, origin: "http://h" },
    onChange: () => {},
    onConversation: () => {},
    onList: () => {},
  });
  stage.model.settings = { ...DEFAULTS, conversations: 2 };
  stage.passes = async (ms) => {
    for (let passed = 0; passed < ms; passed += 100) {
      timers.advance(100);
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  return stage;
}

test("sessions that a replica closed in an orderly way are not lost, even if their first reconnects fail", async () => {
  const { model, backend, passes } = staged();
  await model.open();
  model.start();
  await passes(3_000);
  backend.replaceLog();
  for (let replica = 0; replica < 2; replica += 1) backend.crash(4_000);
  await passes(3_000);
  assert.ok(model.simulation.users.every(({ session }) => session.attempt > 1));
  assert.deepEqual(model.run.crashes.losses, []);
  await passes(8_000);
  assert.ok(model.simulation.users.every(({ isLive }) => isLive));
  backend.crash();
  await passes(1_000);
  assert.ok(model.run.crashes.losses.length > 0);
});

test("sessions that a replica closed in an orderly way are not lost, even if they then get no welcome", async () => {
  const stage = staged();
  const { model, backend, passes } = stage;
  await model.open();
  model.start();
  await passes(3_000);
  stage.isSilent = true;
  backend.replaceLog();
  const { users } = model.simulation;
  const isDone = () => users.every(({ session }) => session.closeReason?.name === "no_welcome");
  for (let round = 0; !isDone() && round < 600; round += 1) await passes(100);
  assert.ok(isDone());
  assert.deepEqual(model.run.crashes.losses, []);
});

test("a run requested before the users are known begins once they are known, and survives a crash", async () => {
  const { model, passes, crashed, ...stage } = staged();
  model.start();
  assert.equal(model.simulation.isRunning, false);
  assert.deepEqual(await model.open(), PEOPLE);
  await passes(3_000);
  const { live, sessions, isReady } = model.facts(stage.timers.now());
  assert.deepEqual([live, sessions, isReady], [4, 4, true]);
  const here = [...model.fleet(stage.timers.now()).sessionsOn.values()];
  assert.equal(here.reduce((sum, count) => sum + count, 0), 4);

  const { outcome, request } = await model.crash({});
  assert.deepEqual([outcome, crashed], ["crashed", [{}]]);
  await passes(5_000);
  const { timeline, crashes } = model.run;
  assert.deepEqual([crashes.incidents.length, lastOf(crashes).id, lastOf(crashes).victim], [1, request, "be.1"]);
  assert.ok(lastOf(crashes).losses.every(({ resumedAt }) => resumedAt !== null));
  assert.deepEqual(timeline.marks.map(({ kind }) => kind), ["start", "asked"]);
  assert.ok(timeline.samples.length >= 7 && timeline.samples.at(-1).successes > 0);
  const { lost, duplicated, reordered, acked } = model.record.ledger;
  assert.deepEqual([lost, duplicated, reordered, acked > 20], [0, 0, 0, true]);
});

test("a stopped run keeps its numbers, a reset forgets them, and the next run begins at zero", async () => {
  const { model, passes } = staged();
  await model.open();
  model.start();
  await passes(2_000);
  model.stop();
  assert.ok(model.record.ledger.acked > 0);
  assert.equal(model.run.timeline.marks.at(-1).kind, "stop");
  model.reset();
  assert.deepEqual([model.record.ledger.acked, model.run.timeline.samples.length], [0, 0]);
  model.start();
  assert.deepEqual(model.run.timeline.marks.map(({ kind }) => kind), ["start"]);
});

test("the start of a run on an idle page requests the list of replicas", async () => {
  const { model, passes, ...stage } = staged();
  await model.open();
  await passes(5_000);
  model.start();
  stage.replicas.push({ id: "be.3", state: "ready" });
  await passes(1_500);
  assert.equal(model.replicaWatch.replicas.length, 3);
});

test("changed settings apply to the current run and to chaos", async () => {
  const { model, passes } = staged();
  await model.open();
  model.change({ ...model.settings, conversations: 1 });
  assert.equal(model.simulation.isRunning, false);
  model.start();
  model.switchChaos(true);
  model.change({ ...model.settings, conversations: 2, chaos: 10 });
  assert.equal(model.simulation.conversations.length, 2);
  await passes(10_000);
  await passes(100);
  assert.equal(model.chaos.done, 1);
  model.stop();
  assert.equal(model.chaos.isOn, false);
});

test("a change of the rate does not delay the next crash by chaos", async () => {
  const { model, timers, passes } = staged();
  await model.open();
  model.start();
  model.switchChaos(true);
  await passes(5_000);
  model.change({ ...model.settings, rate: 6 });
  assert.equal(model.chaos.nextAt - timers.now(), 15_000);
});

test("setting the conversations to zero stops the run and chaos", async () => {
  const { model, passes } = staged();
  await model.open();
  model.start();
  await passes(2_000);
  model.switchChaos(true);
  model.change({ ...model.settings, conversations: 0 });
  assert.deepEqual([model.simulation.isRunning, model.chaos.isOn, model.run.timeline.marks.at(-1).kind], [false, false, "stop"]);
});

test("a record has the settings of its run, even if the settings change after the run", async () => {
  const { model, passes } = staged();
  await model.open();
  model.start();
  await passes(1_000);
  model.change({ ...model.settings, rate: 6 });
  model.stop();
  model.change({ ...model.settings, conversations: 1, rate: 7 });
  assert.deepEqual([model.record.settings.conversations, model.record.settings.rate], [2, 6]);
});

test("a reset forgets how chaos ended", async () => {
  const { model } = staged();
  await model.open();
  model.switchChaos(true);
  model.stop();
  assert.equal(model.chaos.ended, "by_hand");
  model.reset();
  assert.equal(model.chaos.ended, null);
});

test("a page without a run notices within 1.5 s that the replica whose crash it requested is lost", async () => {
  const { model, passes, ...stage } = staged();
  await model.open();
  await passes(5_000);
  await model.crash({});
  stage.replicas[0].state = "lost";
  await passes(1_500);
  assert.notEqual(lastOf(model.run.crashes).lostAt, null);
});

test("a crash request that waits for a token keeps its mode, even if another mode is chosen meanwhile", async () => {
  const { model, crashed } = staged({ token: "Bearer secret" });
  await model.open();
  model.change({ ...model.settings, mode: "hang" });
  await model.crash({ replica: "be.1" });
  model.change({ ...model.settings, mode: "exit" });
  model.giveToken("secret");
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(crashed, [{ replica: "be.1", mode: "hang" }]);
  assert.equal(lastOf(model.run.crashes).victim, "be.1");
});

test("a failed crash request is forgotten by a reset, by the next run, and once a replica is back", async () => {
  const stage = staged({ token: "Bearer secret" });
  const { model, passes } = stage;
  const { crashRequests } = model;
  await model.open();
  for (const forget of [() => model.reset(), () => model.start()]) {
    await model.crash({});
    await model.crash({});
    assert.deepEqual([crashRequests.waiting.by, crashRequests.failure.key], ["person", "crash.error.401"]);
    forget();
    assert.deepEqual([crashRequests.waiting, crashRequests.failure], [null, null]);
  }
  for (const failure of ["unreachable", "404"]) {
    crashRequests.failure = { key: `crash.error.${failure}`, values: {} };
    await passes(2_000);
    assert.notEqual(crashRequests.failure, null, "a list without a change forgot the failure");
    stage.replicas.push({ id: `be.${failure}`, state: "ready" });
    await passes(2_000);
    assert.equal(crashRequests.failure, null);
  }
  stage.isOnline = false;
  stage.isCut = true;
  await passes(5_000);
  await model.crash({});
  assert.notEqual(crashRequests.failure, null);
  stage.isCut = false;
  await passes(5_000);
  assert.equal(crashRequests.failure, null);
});

test("an offline browser sends no crash request, unless the backend is on its own machine", async () => {
  const stage = staged();
  const { model, passes, crashed } = stage;
  await model.open();
  stage.isOnline = false;
  await model.crash({});
  assert.deepEqual([crashed.length, model.crashRequests.failure], [1, null]);
  stage.isCut = true;
  await passes(5_000);
  assert.deepEqual(await model.crash({}), { outcome: "unanswered", request: null });
  assert.equal(model.crashRequests.failure.key, "crash.error.offline");
  assert.equal(model.run.crashes.incidents.length, 1);
});

test("the instructions for a restart of the backend match the chosen crash mode", async () => {
  const { model, timers } = staged();
  await model.open();
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(model.revival(timers.now()).key, "revival.compose.exit");
  model.change({ ...model.settings, mode: "hang" });
  assert.equal(model.revival(timers.now()).key, "revival.compose.hang");
});

test("the picture of a run shows its settings, its numbers, its verdict and its crashes", async () => {
  const { model, passes } = staged();
  await model.open();
  model.start();
  await passes(3_000);
  const [translate, format] = [translator(ENGLISH), new Format("en")];
  const words = { translate, format, language: "en" };
  const recordedAt = new Date("2026-01-02T03:04:05Z");
  const quiet = posterOf({ ...model.record, recordedAt }, words);
  assert.deepEqual([quiet.title, quiet.notes[0], quiet.crashes], ["TheSmilingChat", "Conversations: 2 · 5 smiles/s each", []]);
  assert.equal(quiet.badges[0].number, String(model.record.ledger.acked));
  assert.equal(quiet.facts[0], ENGLISH["ledger.verdict.open"]);
  assert.equal(quiet.facts[3], "none so far");
  await model.crash({});
  await passes(5_000);
  const [head, row] = posterOf({ ...model.record, recordedAt }, words).crashes;
  assert.deepEqual([head[1], row[1], row[2], row[3]], ["Replica", "be.1", "exit", "this page"]);
  model.stop();
  assert.notEqual(posterOf({ ...model.record, recordedAt }, words).facts[0], quiet.facts[0]);
});

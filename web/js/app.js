// The wiring: builds the parts with the browser's clock, chance and network, and connects events to views.

import { Announcer } from "./announcer.js";
import { Backend } from "./backend.js";
import { Chaos } from "./chaos.js";
import { ChaosView } from "./chaos-view.js";
import { Controls } from "./controls.js";
import { ConversationsView } from "./conversations-view.js";
import { CountersView } from "./counters-view.js";
import { CrashControl } from "./crash-control.js";
import { By, Crashes } from "./crashes.js";
import { CrashesView } from "./crashes-view.js";
import { Diagnosis } from "./diagnosis.js";
import { DialQueue } from "./client/dial-queue.js";
import { byId, setData, setText } from "./dom.js";
import { Format } from "./format.js";
import { Hues } from "./hues.js";
import { chooseLanguage, loadDictionary, translator } from "./i18n.js";
import { ORDERLY_CLOSES, socketUrl } from "./client/protocol.js";
import { Platform } from "./platform.js";
import { PlatformView } from "./platform-view.js";
import { Recorder } from "./recorder.js";
import { RenderLoop } from "./render-loop.js";
import { ReplicaWatch } from "./replica-watch.js";
import { ReplicasView } from "./replicas-view.js";
import { SessionState } from "./client/session.js";
import { MOST_CONVERSATIONS } from "./settings.js";
import { Simulation } from "./simulation.js";
import { JoinView } from "./join-view.js";
import { SayControl } from "./say-control.js";
import { statusOf } from "./status.js";
import { TabStorage } from "./storage.js";
import { Mark, NO_TIMELINE, changesBetween, marked, sampled } from "./timeline.js";
import { TimelineView } from "./timeline-view.js";
import { PageTimers } from "./client/timers.js";

const USERS_RETRY_MS = 1_000;
const HEARTBEAT_MS = 1_000;
const ID_RADIX = 36;
const DEFAULT_MODE = "exit";

const language = chooseLanguage(navigator.languages);
const translate = translator(await loadDictionary(language));
const format = new Format(language);
const timers = new PageTimers();
const hues = new Hues();
const storage = new TabStorage(() => sessionStorage);
const pageUrl = document.baseURI;
const announcer = new Announcer({ timers, say: (text) => setText(byId("announcer"), text) });

// Smile ids are unique per sender across reloads: a random word per page, then a count.
const pageWord = Array.from(crypto.getRandomValues(new Uint32Array(2)), (word) => word.toString(ID_RADIX)).join("");
let lastId = 0;
function nextId() {
  lastId += 1;
  return `${pageWord}-${lastId.toString(ID_RADIX)}`;
}

const environment = {
  timers,
  nextId,
  random: Math.random,
  dialQueue: new DialQueue(),
  urlFor: (user, resume) => socketUrl(pageUrl, user, resume),
  openSocket: (url) => new WebSocket(url),
};

// The state of a run other than its smiles. Each run resets it.
const run = { timeline: NO_TIMELINE, crashes: new Crashes(), startedAt: 0 };

const backend = new Backend({ pageUrl, timers, fetch: (url, options) => fetch(url, options) });
const platform = new Platform({ storage });

const simulation = new Simulation({
  environment,
  onChange: (conversation) => {
    conversationsView.mark(conversation);
    renderLoop.request();
  },
  onList: () => {
    conversationsView.list(simulation.conversations);
    renderLoop.request();
  },
  onSession: sessionChanged,
});

const diagnosis = new Diagnosis({
  backend,
  timers,
  onRefused: countRefusal,
  onFound: (cause) => {
    if (cause.retryAfter > 0) simulation.postpone(cause.retryAfter);
    renderLoop.request();
  },
});

const replicaWatch = new ReplicaWatch({
  backend,
  timers,
  random: Math.random,
  isHidden: () => document.hidden,
  isIdle: () => !isSomethingGoingOn(),
  onAnswer: replicasAnswered,
  onChange: (error) => {
    if (error !== null) countRefusal(error);
    renderLoop.request();
  },
  onReturn: () => simulation.hurry(),
});

const crashControl = new CrashControl({
  translate,
  backend,
  timers,
  storage,
  crashes: () => run.crashes,
  onChange: () => renderLoop.request(),
});

const chaos = new Chaos({
  timers,
  crash: () => crash({ by: By.CHAOS }),
  canCrash: () => run.crashes.canCrash(timers.now()),
  isBroken: () => {
    const { lost, duplicated, reordered } = simulation.ledger.totals;
    return lost + duplicated + reordered > 0;
  },
  heals: () => platform.heals,
  onChange: () => renderLoop.request(),
});

const hueOf = (replica) => hues.of(replica);
const platformView = new PlatformView({ translate });
const countersView = new CountersView({ translate, format });
const chaosView = new ChaosView({ translate, format });
const timelineView = new TimelineView({ translate, format, hueOf });
const crashesView = new CrashesView({ translate, format });
let threadView = null; // loaded with the first conversation that is opened
async function openThread(conversation) {
  const { ThreadView } = await import("./thread-view.js");
  threadView ??= new ThreadView({ translate, format, hueOf, onChange: () => renderLoop.request() });
  threadView.open(conversation);
}
const conversationsView = new ConversationsView({ translate, format, hueOf, onOpen: openThread });
const replicasView = new ReplicasView({ translate, format, hueOf, onCrash: (replica) => crash({ replica }) });
const renderLoop = new RenderLoop({
  timers,
  requestFrame: (paintSoon) => requestAnimationFrame(paintSoon),
  afterFrame: (run) => setTimeout(run),
  paint,
  paintMore: () => conversationsView.paintMore(timers.now()),
});
const sayControl = new SayControl({ translate, page: pageUrl, timers, dialQueue: environment.dialQueue });
new JoinView({ pageUrl, timers });
const recorder = new Recorder({ translate, format, timelineView, crashesView });

let usersKnown = false;
let startsWhenReady = false;

applyLanguage();
const controls = new Controls({
  translate,
  storage,
  actions: {
    start,
    stop,
    reset,
    crash: () => crash({}),
    chaos: switchChaos,
    json: () => recorder.json(everything()),
    picture: () => recorder.picture(everything()),
    changed: settingsChanged,
    said: (text) => announcer.tell("link", text, text),
  },
});

function isSomethingGoingOn() {
  return simulation.isRunning || chaos.isOn || run.crashes.isOpen(timers.now());
}

function sessionChanged(user) {
  const { state, replica, attempt, closeReason } = user.session;
  const at = timers.now();
  if (state === SessionState.WAITING || state === SessionState.FAILED) {
    const isOrderly = ORDERLY_CLOSES.has(closeReason?.code);
    // Counts the end of a session, not the attempts after it.
    if (isOrderly) mark({ kind: Mark.HANDED_OVER, replica });
    run.crashes.sessionLost({ at, user: user.name, replica, isOrderly });
  }
  // Without any answer there is no refusal.
  const isThere = replicaWatch.unreachableSince === null;
  if (state === SessionState.WAITING && isThere) {
    diagnosis.failed({ attempt, url: environment.urlFor(user.name, null), isRefusal: closeReason.isRefusal });
  }
  if (state === SessionState.LIVE) run.crashes.sessionLive({ at, user: user.name });
  if (state === SessionState.STOPPED) run.crashes.sessionStopped(user.name);
  if (user.isConnected) diagnosis.welcomed();
}

function replicasAnswered(answer) {
  const at = timers.now();
  platform.seen(answer);
  for (const change of changesBetween(run.replicas ?? [], answer.replicas)) mark(change);
  run.replicas = answer.replicas;
  run.crashes.replicasSeen({ at, replicas: answer.replicas });
}

function countRefusal(error) {
  const { overloadCause } = error;
  if (simulation.isRunning && navigator.onLine && overloadCause !== null) simulation.counters.overloaded(overloadCause);
}

function mark(what) {
  run.timeline = marked(run.timeline, { at: timers.now(), ...what });
}

async function crash({ replica = null, by = By.PERSON }) {
  const asked = await crashControl.crash({ replica, by });
  const { victim } = asked.incident;
  if (victim !== null) mark({ kind: Mark.ASKED, replica: victim });
  return asked;
}

function paint() {
  const now = timers.now();
  countersView.paint({ simulation, now });
  paintStatus(now);
  paintPlatform(now);
  chaosView.paint({ chaos, now });
  crashesView.paint(run.crashes);
  announce();
  if (document.hidden) return false;
  threadView?.paint(now);
  timelineView.paint(run.timeline);
  replicasView.paint({
    replicas: replicaWatch.replicas,
    staleFor: since(replicaWatch.unreachableSince, now),
    sessionsHere,
    age: now - (replicaWatch.answeredAt ?? now),
  });
  return conversationsView.paint(now);
}

function since(time, now) {
  return time === null ? null : now - time;
}

function connectedUsers() {
  return simulation.users.filter((user) => user.isConnected);
}

function sessionsHere(replica) {
  return connectedUsers().filter((user) => user.session.replica === replica).length;
}

function paintPlatform(now) {
  const isAway = navigator.onLine && connectedUsers().length === 0;
  const silentFor = isAway ? since(replicaWatch.silentSince, now) : null;
  const { last } = run.crashes;
  const openMode = last === null || last.isOver ? DEFAULT_MODE : last.mode;
  const revival = platform.revival({ mode: silentFor === null ? crashControl.chosenMode : (openMode ?? DEFAULT_MODE), silentFor });
  platformView.paint({ platform: platform.name, links: platform.links, revival });
  const isGone = revival !== null && revival.mood !== "calm";
  announcer.tell("revival", isGone ? revival.key : "", isGone ? byId("revival").textContent.trim() : "");
}

function paintStatus(now) {
  const { key, values, mood } = statusOf({
    refusal: diagnosis.cause?.code ?? null,
    origin: location.origin,
    isOnline: navigator.onLine,
    unreachableFor: since(replicaWatch.unreachableSince, now),
    quietFor: replicaWatch.quietUntil === null ? null : Math.max(0, replicaWatch.quietUntil - now),
    isReady: usersKnown && replicaWatch.hasAnswered,
    sessions: simulation.users.length,
    live: simulation.users.filter((user) => user.isLive).length,
    connected: connectedUsers().length,
    limit: simulation.limit,
    most: MOST_CONVERSATIONS,
    self: replicaWatch.self,
  });
  const text = translate(key, { ...values, age: format.duration(values.ms ?? 0) });
  setText(byId("status"), text);
  setData(byId("status"), "mood", mood);
  announcer.tell("status", key, text);
}

// Counters are shown; events are also announced.
function announce() {
  const { last } = run.crashes;
  const steps = last === null ? [] : crashesView.stepsOf(last).filter(([time]) => time.startsWith("+"));
  announcer.tell("crash", `${last?.askedAt} ${steps.length}`, steps.at(-1)?.[1] ?? "");
  const chaosText = chaos.isOn ? translate("chaos.started") : byId("chaos-said").textContent;
  announcer.tell("chaos", `${chaos.isOn} ${chaos.ended}`, chaosText);
}

function start() {
  if (!usersKnown) {
    startsWhenReady = true;
    return;
  }
  const { conversations, rate, seed } = controls.settings;
  if (!simulation.isRunning && conversations > 0) {
    forgetRun();
    run.startedAt = timers.now();
    mark({ kind: Mark.START });
  }
  simulation.run(conversations, { rate, seed });
  renderLoop.flush();
}

function stop() {
  startsWhenReady = false;
  if (simulation.isRunning) mark({ kind: Mark.STOP });
  simulation.stop();
  chaos.stop();
  sample();
  renderLoop.flush();
}

function reset() {
  stop();
  simulation.reset();
  forgetRun();
  renderLoop.flush();
}

function forgetRun() {
  countersView.reset();
  run.timeline = NO_TIMELINE;
  run.crashes = new Crashes();
  run.crashes.replicasSeen({ at: timers.now(), replicas: replicaWatch.replicas });
}

function settingsChanged() {
  if (simulation.isRunning) start();
  if (chaos.isOn) switchChaos();
}

function switchChaos() {
  if (byId("chaos").checked) chaos.start(controls.settings.chaos * 1_000);
  else chaos.stop();
}

function everything() {
  const { timeline, crashes, startedAt } = run;
  const { ledger, counters } = simulation;
  return { settings: controls.settings, startedAt, timeline, crashes: crashes.all, ledger: ledger.totals, overloads: counters.overloadCauses };
}

/** A run cannot start without the users. */
async function learnUsers() {
  const people = await backend.learnUsers({ pause: USERS_RETRY_MS });
  simulation.people = people;
  sayControl.people = people;
  usersKnown = true;
  renderLoop.request();
  if (startsWhenReady) start();
}

function applyLanguage() {
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll("[data-i18n]")) setText(node, translate(node.dataset.i18n));
}

function sample() {
  run.timeline = sampled(run.timeline, {
    at: timers.now(),
    successes: simulation.ledger.totals.acked,
    overloads: simulation.counters.overloadErrors,
    replicas: replicaWatch.replicas.map(({ id, state }) => ({ id, state, sessions: sessionsHere(id) })),
  });
}

// Ages, countdowns and rates change without events. The timeline stops when no run is active.
function keepTime() {
  if (isSomethingGoingOn()) sample();
  renderLoop.request();
  timers.after(HEARTBEAT_MS, keepTime);
}

function listenToBrowser() {
  addEventListener("online", () => {
    simulation.hurry();
    replicaWatch.ask();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    for (const conversation of simulation.conversations) conversationsView.mark(conversation);
    renderLoop.flush();
    replicaWatch.ask();
  });
}

listenToBrowser();
if (controls.starts) start();
learnUsers();
replicaWatch.ask();
keepTime();

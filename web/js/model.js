// The state and the actions of the page, apart from drawing: the run and its smiles, the replicas, the platform and
// chaos. The caller passes the browser's clock, random numbers and network.

import { Backend } from "./backend.js";
import { Chaos } from "./chaos.js";
import { By, canCrash, isOpen, lastOf } from "./crashes.js";
import { CrashRequests, Outcome } from "./crash-requests.js";
import { ORDERLY_CLOSES } from "./client/protocol.js";
import { SessionState } from "./client/session.js";
import { Diagnosis } from "./diagnosis.js";
import { Platform } from "./platform.js";
import { ReplicaWatch } from "./replica-watch.js";
import * as Run from "./run.js";
import { DEFAULTS, MOST_CONVERSATIONS } from "./settings.js";
import { Simulation } from "./simulation.js";

const USERS_RETRY_MS = 1_000;
const HEARTBEAT_MS = 1_000;

const ANSWERS = {
  [Outcome.CRASHED]: Run.crashConfirmed,
  // The replica may still have crashed.
  [Outcome.UNANSWERED]: (run) => run,
  [Outcome.NOBODY]: Run.crashRefused,
  [Outcome.REFUSED]: Run.crashRefused,
};

const since = (time, now) => (time === null ? null : now - time);

export class Model {
  #environment;
  #timers;
  #backend;
  #browser;
  #onChange;
  #usersKnown = false;
  #startsWhenReady = false;
  #lastRequest = 0;
  #usedSettings = DEFAULTS;

  settings = DEFAULTS;
  run = Run.NO_RUN;

  /**
   * `environment` is the environment of the simulation. `browser` has `isOnline()`, `isHidden()` and the `origin` of
   * the page. `onChange()` requests a repaint; `onConversation(conversation)` and `onList()` report changes in the
   * simulation.
   */
  constructor({ environment, pageUrl, fetch, storage, browser, onChange, onConversation, onList }) {
    const { timers, random } = environment;
    this.#environment = environment;
    this.#timers = timers;
    this.#browser = browser;
    this.#onChange = onChange;
    const backend = new Backend({ pageUrl, timers, fetch });
    this.#backend = backend;
    this.platform = new Platform({ storage });
    this.crashRequests = new CrashRequests({ backend, storage });
    this.simulation = new Simulation({
      environment,
      onChange: onConversation,
      onList,
      onSession: (user) => this.#sessionChanged(user),
    });
    this.diagnosis = new Diagnosis({
      backend,
      timers,
      onRefused: (error) => this.#countRefusal(error),
      onFound: (cause) => this.#causeFound(cause),
    });
    this.replicaWatch = new ReplicaWatch({
      backend,
      timers,
      random,
      isHidden: browser.isHidden,
      isIdle: () => !this.#isSomethingGoingOn(),
      onAnswer: (answer) => this.#replicasAnswered(answer),
      onChange: (error) => this.#replicasAsked(error),
      onReturn: () => {
        this.simulation.hurry();
        this.crashRequests.replicaIsBack();
      },
    });
    this.chaos = new Chaos({
      timers,
      crash: () => this.crash({ by: By.CHAOS }),
      hasVictim: (request) => Run.victimOf(this.run, request) !== null,
      canCrash: () => canCrash(this.run.crashes, timers.now()),
      isBroken: () => this.#isBroken(),
      heals: () => this.platform.heals,
      onChange,
    });
  }

  /** Starts to watch the backend. Returns the users once the backend has sent them; no run starts earlier. */
  async open() {
    this.replicaWatch.ask();
    this.#keepTime();
    const people = await this.#backend.learnUsers({ pause: USERS_RETRY_MS });
    this.simulation.people = people;
    this.#usersKnown = true;
    this.#onChange();
    if (this.#startsWhenReady) this.start();
    return people;
  }

  start() {
    if (!this.#usersKnown) {
      this.#startsWhenReady = true;
      return;
    }
    const { conversations, rate, seed } = this.settings;
    this.#usedSettings = this.settings;
    if (!this.simulation.isRunning && conversations > 0) {
      this.crashRequests.forget();
      this.#tell(Run.forgotten);
      this.#tell(Run.started);
      // An idle page polls rarely, and would show the load late.
      this.replicaWatch.ask();
    }
    this.simulation.run(conversations, { rate, seed });
  }

  stop() {
    this.#startsWhenReady = false;
    if (this.simulation.isRunning) this.#tell(Run.stopped);
    this.simulation.stop();
    this.chaos.stop();
    this.#sample();
  }

  reset() {
    this.stop();
    this.simulation.reset();
    this.chaos.ended = null;
    this.crashRequests.forget();
    this.#tell(Run.forgotten);
  }

  change(settings) {
    const { chaos } = this.settings;
    this.settings = settings;
    if (this.simulation.isRunning) {
      if (settings.conversations === 0) this.stop();
      else this.start();
    }
    if (this.chaos.isOn && settings.chaos !== chaos) this.switchChaos(true);
    this.#onChange();
  }

  switchChaos(isOn) {
    if (isOn) this.chaos.start(this.settings.chaos * 1_000);
    else this.chaos.stop();
  }

  /**
   * Requests a crash of `replica`; null lets the server choose a replica. Returns `{outcome, request}`; `request` is
   * null if the browser is offline, and no request is sent.
   */
  async crash({ replica = null, by = By.PERSON, mode = this.settings.mode }) {
    // An offline browser still reaches a backend on its own machine.
    if (!this.#browser.isOnline() && this.replicaWatch.unreachableSince !== null) {
      this.crashRequests.failure = { key: "crash.error.offline", values: {} };
      this.#onChange();
      return { outcome: Outcome.UNANSWERED, request: null };
    }
    this.#lastRequest += 1;
    const id = this.#lastRequest;
    this.#tell(Run.crashAsked, { id, by, mode });
    this.#onChange();
    const { outcome, ...answer } = await this.crashRequests.ask({ replica, by, mode });
    this.#tell(ANSWERS[outcome], { id, ...answer });
    // An idle page polls rarely, and would notice the crash late.
    this.replicaWatch.ask();
    this.#onChange();
    return { outcome, request: id };
  }

  giveToken(token) {
    this.crashRequests.token = token;
    this.crash(this.crashRequests.waiting);
  }

  /** Called when the network is back. The server's hints are still honoured. */
  hurry() {
    this.simulation.hurry();
    this.replicaWatch.ask();
  }

  /** The facts from which `statusOf` chooses the sentence about the connection. */
  facts(now) {
    const { simulation, replicaWatch } = this;
    const { quietUntil, unreachableSince, answeredAt } = replicaWatch;
    return {
      refusal: this.diagnosis.cause?.code ?? null,
      origin: this.#browser.origin,
      isOnline: this.#browser.isOnline(),
      unreachableFor: since(unreachableSince, now),
      quietFor: quietUntil === null ? null : Math.max(0, quietUntil - now),
      isReady: this.#usersKnown && answeredAt !== null,
      sessions: simulation.users.length,
      live: simulation.users.filter((user) => user.isLive).length,
      connected: this.#connectedUsers().length,
      limit: simulation.limit,
      most: MOST_CONVERSATIONS,
      self: replicaWatch.self,
    };
  }

  /**
   * How to restart a replica that crashes in the chosen mode. If no backend answers although the browser is online, and
   * no session is connected, the mode is that of the last crash instead; it is the default mode if there was no crash,
   * if the mode of the last crash is unknown, or if the crashed replica has been replaced.
   */
  revival(now) {
    const isAway = this.#browser.isOnline() && this.#connectedUsers().length === 0;
    const silentFor = isAway ? since(this.replicaWatch.silentSince, now) : null;
    const last = lastOf(this.run.crashes);
    const openMode = last === null || last.replacement !== null ? null : last.mode;
    return this.platform.revival({ mode: silentFor === null ? this.settings.mode : (openMode ?? DEFAULTS.mode), silentFor });
  }

  /**
   * The list of replicas, its age in milliseconds, whether the last request for it failed for a reason other than a
   * rate limit, and the number of the simulated users' sessions on each replica.
   */
  fleet(now) {
    const { replicas, unreachableSince, answeredAt } = this.replicaWatch;
    return { replicas, isStale: unreachableSince !== null, age: now - (answeredAt ?? now), sessionsOn: this.#sessionsByReplica() };
  }

  get record() {
    const { ledger, counters, isRunning } = this.simulation;
    const overloads = counters.overloadCauses;
    return { settings: this.#usedSettings, ...this.run, isRunning, ledger: ledger.totals, overloads };
  }

  /** Applies one of the run's functions to an event that happens now. */
  #tell(change, event) {
    this.run = change(this.run, { at: this.#timers.now(), ...event });
  }

  #isSomethingGoingOn() {
    return this.simulation.isRunning || this.chaos.isOn || isOpen(this.run.crashes, this.#timers.now());
  }

  #isBroken() {
    const { lost, duplicated, reordered } = this.simulation.ledger.totals;
    return lost + duplicated + reordered > 0;
  }

  #sessionChanged(user) {
    const { state, replica, attempt, closeReason } = user.session;
    const hasEnded = state === SessionState.WAITING || state === SessionState.FAILED;
    // A failed attempt to reconnect loses nothing more.
    if (hasEnded && !closeReason.isRefusal && closeReason.name !== "no_welcome") {
      const isOrderly = ORDERLY_CLOSES.has(closeReason.code);
      this.#tell(Run.sessionLost, { user: user.name, replica, isOrderly });
    }
    // While requests for the list of replicas fail for a reason other than a rate limit, a closed socket does not count
    // as a refusal.
    const isThere = this.replicaWatch.unreachableSince === null;
    if (state === SessionState.WAITING && isThere) {
      const url = this.#environment.urlFor(user.name, null);
      this.diagnosis.failed({ attempt, url, isRefusal: closeReason.isRefusal });
    }
    if (state === SessionState.LIVE) this.#tell(Run.sessionLive, { user: user.name });
    if (state === SessionState.STOPPED) this.#tell(Run.sessionStopped, { user: user.name });
    if (user.isConnected) this.diagnosis.welcomed();
  }

  #replicasAnswered(answer) {
    this.platform.seen(answer);
    const { arrivals } = this.run.crashes;
    this.#tell(Run.replicasSeen, { replicas: answer.replicas });
    if (this.run.crashes.arrivals.length > arrivals.length) this.crashRequests.replicaIsBack();
  }

  #replicasAsked(error) {
    if (error !== null) this.#countRefusal(error);
    this.#onChange();
  }

  #causeFound({ retryAfter }) {
    this.simulation.postpone(retryAfter);
    this.#onChange();
  }

  #countRefusal({ overloadCause }) {
    const { isRunning, counters } = this.simulation;
    if (isRunning && this.#browser.isOnline() && overloadCause !== null) counters.overloaded(overloadCause);
  }

  #connectedUsers() {
    return this.simulation.users.filter((user) => user.isConnected);
  }

  #sessionsByReplica() {
    const sessions = new Map();
    for (const { session } of this.#connectedUsers()) sessions.set(session.replica, (sessions.get(session.replica) ?? 0) + 1);
    return sessions;
  }

  #sample() {
    const { ledger, counters } = this.simulation;
    const sessionsOn = this.#sessionsByReplica();
    this.#tell(Run.sampled, {
      successes: ledger.totals.acked,
      overloads: counters.overloadErrors,
      replicas: this.replicaWatch.replicas.map(({ id, state }) => ({ id, state, sessions: sessionsOn.get(id) ?? 0 })),
    });
  }

  // Ages, countdowns and rates change without events, so they are repainted every second. Without a run, chaos or an
  // open crash, the timeline stops.
  #keepTime() {
    if (this.#isSomethingGoingOn()) this.#sample();
    this.#onChange();
    this.#timers.after(HEARTBEAT_MS, () => this.#keepTime());
  }
}

// All crashes of a run, requested by the user, by chaos or by another client. The caller passes the time of each event.

import { Incident } from "./incident.js";
import { Mark, changesBetween } from "./timeline.js";

const READY = "ready";

export const By = Object.freeze({ PERSON: "person", CHAOS: "chaos", SOMEBODY: "somebody" });

/** How long the loss of a session, or a request without an answer, is kept for a crash that the page notices later. */
const REMEMBERED_MS = 60_000;
/** How long to wait for a replacement. */
const OPEN_MS = 120_000;
/** The age at which a list of replicas says nothing about now. A hidden page asks every 10 s. */
const STALE_MS = 15_000;

export class Crashes {
  #incidents = [];
  #replicas = [];
  #seenAt = -Infinity;
  #known = new Set();
  #orderly = new Set();
  #losses = [];

  get all() {
    return this.#incidents;
  }

  get last() {
    return this.#incidents.at(-1) ?? null;
  }

  /** Whether the consequences of a crash are still being tracked. */
  isOpen(now) {
    return this.#incidents.some((incident) => !incident.isOver && now - incident.askedAt < OPEN_MS);
  }

  /** Whether a recent list has a replica that can crash: a ready one that was not crashed already. */
  canCrash(now) {
    const isVictim = (id) => this.#incidents.some(({ victim }) => victim === id);
    return now - this.#seenAt < STALE_MS && this.#replicas.some(({ id, state }) => state === READY && !isVictim(id));
  }

  /** Records a requested crash. */
  asked({ at, by, mode }) {
    const incident = new Incident({ at, by, mode });
    this.#incidents.push(incident);
    return incident;
  }

  /** Drops a refused crash. */
  withdrawn(incident) {
    this.#incidents = this.#incidents.filter((each) => each !== incident);
  }

  /** Records a broken session; an announced end is orderly. */
  sessionLost({ at, user, replica, isOrderly }) {
    if (isOrderly) {
      this.#orderly.add(replica);
      return;
    }
    this.#losses = this.#losses.filter((loss) => at - loss.at < REMEMBERED_MS);
    this.#losses.push({ at, user, replica });
    for (const incident of this.#incidents) incident.sessionLost({ at, user, replica });
  }

  sessionLive({ at, user }) {
    for (const incident of this.#incidents) incident.sessionLive({ at, user });
  }

  sessionStopped(user) {
    for (const incident of this.#incidents) incident.sessionStopped(user);
  }

  replicasSeen({ at, replicas }) {
    for (const { id, state } of replicas) if (state === "draining") this.#orderly.add(id);
    for (const { kind, replica } of changesBetween(this.#replicas, replicas)) {
      if (kind === Mark.LOST && !this.#orderly.has(replica)) this.#lost({ at, replica });
    }
    this.#replicas = replicas;
    this.#seenAt = at;
    for (const incident of this.#incidents) incident.replicasSeen({ at, replicas });
    for (const { id, state } of replicas) if (state === READY && !this.#known.has(id)) this.#appeared({ at, replica: id });
  }

  // A new replica takes the place of one lost replica: the one that has waited longest. A crash without a victim may not
  // have happened, so it comes last.
  #appeared({ at, replica }) {
    this.#known.add(replica);
    const open = this.#incidents.filter((incident) => !incident.isOver);
    (open.find(({ victim }) => victim !== null) ?? open[0])?.replaced({ at, replica });
  }

  // The crash was requested here, possibly without an answer, or by another client.
  #lost({ at, replica }) {
    if (this.#incidents.some((incident) => incident.victim === replica)) return;
    const isUnanswered = ({ victim, askedAt }) => victim === null && at - askedAt < REMEMBERED_MS;
    const unanswered = this.#incidents.find(isUnanswered);
    if (unanswered !== undefined) {
      unanswered.victim = replica;
      return;
    }
    const losses = this.#losses.filter((loss) => loss.replica === replica);
    const incident = this.asked({ at: losses[0]?.at ?? at, by: By.SOMEBODY, mode: null });
    incident.victim = replica;
    for (const loss of losses) incident.sessionLost(loss);
  }
}

/** Best, median and worst of the known times; unknown ones are null. Null if none is known. */
export function spread(times) {
  const known = times.filter((time) => time !== null).sort((left, right) => left - right);
  if (known.length === 0) return null;
  const middle = (known[Math.floor((known.length - 1) / 2)] + known[Math.ceil((known.length - 1) / 2)]) / 2;
  return { best: known[0], median: middle, worst: known.at(-1) };
}

// The course of a crash: when it was requested, when sessions were lost, when the last one resumed, when a
// replica replaced the lost one. The caller passes the time of each event.

export const Step = Object.freeze({
  ASKED: "asked",
  CONFIRMED: "confirmed",
  SESSIONS_LOST: "sessions_lost",
  SESSIONS_RESUMED: "sessions_resumed",
  REPLICA_LOST: "replica_lost",
  REPLICA_BACK: "replica_back",
});

const READY = "ready";

export class Incident {
  #askedAt;
  #confirmedAt = null;
  #losses = new Map();
  #replicaLostAt = null;
  #replicaBack = null;

  victim = null;
  mode = null;

  /** `by` is the requester. */
  constructor({ at, by, mode }) {
    this.by = by;
    this.#askedAt = at;
    this.mode = mode;
  }

  confirmed({ at, replica, mode }) {
    this.#confirmedAt = at;
    this.victim = replica;
    this.mode = mode;
  }

  /** Records a broken session on `replica`. Only the first loss of each user counts. */
  sessionLost({ at, user, replica }) {
    if (!this.#losses.has(user)) this.#losses.set(user, { replica, lostAt: at, resumedAt: null });
  }

  sessionLive({ at, user }) {
    const loss = this.#losses.get(user);
    if (loss !== undefined) loss.resumedAt ??= at;
  }

  /** Drops a session that was stopped on purpose. */
  sessionStopped(user) {
    if (this.#losses.get(user)?.resumedAt === null) this.#losses.delete(user);
  }

  replicasSeen({ at, replicas }) {
    if (this.victim === null) return;
    const victim = replicas.find((replica) => replica.id === this.victim);
    if (victim?.state !== READY) this.#replicaLostAt ??= at;
  }

  /** Records the replica that took the place of the lost one. */
  replaced({ at, replica }) {
    this.#replicaBack = { at, id: replica };
  }

  get askedAt() {
    return this.#askedAt;
  }

  /** Milliseconds from the request until the replica was seen as gone, or null. */
  get seenAfter() {
    return this.#after(this.#replicaLostAt);
  }

  /** Milliseconds from the request until all lost sessions were live again, or null. */
  get resumedAfter() {
    const times = this.#victims.map((loss) => loss.resumedAt);
    return times.length === 0 || times.includes(null) ? null : this.#after(Math.max(...times));
  }

  /** Milliseconds from the request until a replacement was ready, or null. */
  get replacedAfter() {
    return this.#after(this.#replicaBack?.at ?? null);
  }

  /** Whether a replica has replaced the lost one. */
  get isOver() {
    return this.#replicaBack !== null;
  }

  get sessionsLost() {
    return this.#victims.length;
  }

  get sessionsResumed() {
    return this.#victims.filter((loss) => loss.resumedAt !== null).length;
  }

  /** The events so far in order: {kind, after, ...}, with `after` in ms since the request. */
  get steps() {
    const steps = [{ kind: Step.ASKED, at: this.#askedAt, mode: this.mode }];
    if (this.#confirmedAt !== null) {
      steps.push({ kind: Step.CONFIRMED, at: this.#confirmedAt, replica: this.victim, mode: this.mode });
    }
    const losses = this.#victims;
    if (losses.length > 0) {
      const at = Math.max(...losses.map((loss) => loss.lostAt));
      steps.push({ kind: Step.SESSIONS_LOST, at, count: losses.length });
    }
    if (losses.length > 0 && losses.every((loss) => loss.resumedAt !== null)) {
      const at = Math.max(...losses.map((loss) => loss.resumedAt));
      steps.push({ kind: Step.SESSIONS_RESUMED, at, count: losses.length });
    }
    if (this.#replicaLostAt !== null) {
      steps.push({ kind: Step.REPLICA_LOST, at: this.#replicaLostAt, replica: this.victim });
    }
    if (this.#replicaBack !== null) {
      steps.push({ kind: Step.REPLICA_BACK, at: this.#replicaBack.at, replica: this.#replicaBack.id });
    }
    return steps
      .sort((left, right) => left.at - right.at)
      .map(({ at, ...step }) => ({ ...step, after: at - this.#askedAt }));
  }

  #after(time) {
    return time === null ? null : Math.max(0, time - this.#askedAt);
  }

  // Until the server names the replica, every session lost since the request counts.
  get #victims() {
    const losses = [...this.#losses.values()];
    return this.victim === null ? losses : losses.filter((loss) => loss.replica === this.victim);
  }
}

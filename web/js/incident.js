// The course of a crash: its request, the lost sessions, their return, and the replacement of the replica. The
// functions are pure: those that record an event take an incident and return the incident after the event.

export const Step = Object.freeze({
  ASKED: "asked",
  CONFIRMED: "confirmed",
  SESSIONS_LOST: "sessions_lost",
  SESSIONS_RESUMED: "sessions_resumed",
  REPLICA_LOST: "replica_lost",
  REPLICA_BACK: "replica_back",
});

const READY = "ready";

/**
 * A new incident: a crash that was requested at the time `at`. For a crash that the page has only noticed, `at` is the
 * time of the first lost session or, without one, of the last heartbeat. The caller chooses the `id`; `by` is the
 * requester.
 */
export function incidentOf({ id, at, by, mode }) {
  return { id, by, mode, victim: null, askedAt: at, confirmedAt: null, losses: [], lostAt: null, replacement: null };
}

/** Records the server's answer, which names the replica. */
export function confirmed(incident, { at, replica, mode }) {
  return { ...incident, confirmedAt: at, victim: replica, mode };
}

/**
 * A session that breaks again before it is live counts once. In place of an incident, this function and the next two
 * also accept the state of all crashes, which has the lost sessions of all replicas but no victim.
 */
export function sessionLost(incident, { at, user, replica }) {
  const { victim = null, losses } = incident;
  if ((victim !== null && victim !== replica) || isAwaited(incident, user)) return incident;
  return { ...incident, losses: [...losses, { user, replica, lostAt: at, resumedAt: null }] };
}

export function sessionLive(incident, { at, user }) {
  if (!isAwaited(incident, user)) return incident;
  const resumed = (loss) => (isAway(loss, user) ? { ...loss, resumedAt: at } : loss);
  return { ...incident, losses: incident.losses.map(resumed) };
}

/** Drops a lost session that was stopped on purpose before it was live again. */
export function sessionStopped(incident, { user }) {
  if (!isAwaited(incident, user)) return incident;
  return { ...incident, losses: incident.losses.filter((loss) => !isAway(loss, user)) };
}

const isAway = (loss, user) => loss.user === user && loss.resumedAt === null;
const isAwaited = ({ losses }, user) => losses.some((loss) => isAway(loss, user));

/** Records when the victim was first seen in a state other than ready, or first missing from the list. */
export function replicasSeen(incident, { at, replicas }) {
  const { victim, lostAt } = incident;
  if (victim === null || lostAt !== null) return incident;
  const isReady = replicas.some(({ id, state }) => id === victim && state === READY);
  return isReady ? incident : { ...incident, lostAt: at };
}

// Until the victim is known, every recorded loss counts.
function countedLosses({ victim, losses }) {
  return victim === null ? losses : losses.filter((loss) => loss.replica === victim);
}

/**
 * The figures of a crash. The times are the milliseconds from the request until the replica was no longer seen as
 * ready, until all lost sessions were live again, and until a replacement was ready. An unknown time is null.
 */
export function figuresOf(incident) {
  const times = countedLosses(incident).map(({ resumedAt }) => resumedAt);
  const after = (time) => (time === null ? null : Math.max(0, time - incident.askedAt));
  return {
    sessionsLost: times.length,
    sessionsResumed: times.filter((time) => time !== null).length,
    seenAfter: after(incident.lostAt),
    resumedAfter: times.length === 0 || times.includes(null) ? null : after(Math.max(...times)),
    replacedAfter: after(incident.replacement?.at ?? null),
  };
}

/** The events so far in order: {kind, after, ...}, with `after` in milliseconds since the request. */
export function stepsOf(incident) {
  const { askedAt, confirmedAt, victim, mode, lostAt, replacement } = incident;
  const losses = countedLosses(incident);
  const steps = [{ kind: Step.ASKED, at: askedAt, mode }];
  if (confirmedAt !== null) steps.push({ kind: Step.CONFIRMED, at: confirmedAt, replica: victim, mode });
  if (losses.length > 0) {
    const count = losses.length;
    steps.push({ kind: Step.SESSIONS_LOST, at: Math.max(...losses.map((loss) => loss.lostAt)), count });
    if (losses.every((loss) => loss.resumedAt !== null)) {
      steps.push({ kind: Step.SESSIONS_RESUMED, at: Math.max(...losses.map((loss) => loss.resumedAt)), count });
    }
  }
  if (lostAt !== null) steps.push({ kind: Step.REPLICA_LOST, at: lostAt, replica: victim });
  if (replacement !== null) steps.push({ kind: Step.REPLICA_BACK, at: replacement.at, replica: replacement.id });
  return steps
    .sort((left, right) => left.at - right.at)
    .map(({ at, ...step }) => ({ ...step, after: at - askedAt }));
}

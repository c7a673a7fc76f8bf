// Which new replica takes the place of which lost one. Pure functions.
//
// The name identifies the replacement, in whatever order the replicas return: a container that starts again keeps its name
// in Compose, a task its slot in Swarm, a pod its name in Kubernetes. The node does not, since an orchestrator picks any node.

const isSame = (lost, found) => lost.id === found.id;
const isNamesake = (lost, found) => lost.name !== undefined && lost.name === found.name;
const hasSameHost = (lost, found) => lost.host === found.host;

/** The signs of a replacement, the surest first. */
const SIGNS = [
  isSame,
  (lost, found) => isNamesake(lost, found) && hasSameHost(lost, found),
  isNamesake,
];

/**
 * Without a sign, a stranger replaces the victim of the oldest open crash. A stranger is a new replica whose name no missing
 * replica had. A crash whose victim is not known may not have happened, so it comes last.
 */
const GUESSES = [
  (lost, found) => found.isStranger && lost.id !== null,
  (_, found) => found.isStranger,
];

/**
 * The incidents, oldest first, with their `replacement`: the arrival {at, id, name, host, isStranger}, and whether it `isSure`.
 * `roster` has the names of replicas by id. A later sign corrects an earlier guess.
 */
export function withReplacements(incidents, arrivals, roster) {
  const open = incidents.filter(({ replacement }) => !replacement?.isSure);
  const taken = new Set(incidents.filter((each) => !open.includes(each)).map(({ replacement }) => replacement.arrival));
  const free = new Set(arrivals.filter((arrival) => !taken.has(arrival)));
  const found = new Map();
  const pair = (tells, isSure) => {
    for (const incident of open) {
      if (found.has(incident)) continue;
      const lost = roster.get(incident.victim) ?? { id: incident.victim };
      const arrival = [...free].find((each) => each.at >= incident.askedAt && tells(lost, each));
      if (arrival === undefined) continue;
      free.delete(arrival);
      found.set(incident, { at: arrival.at, id: arrival.id, arrival, isSure });
    }
  };
  for (const sign of SIGNS) pair(sign, true);
  for (const guess of GUESSES) pair(guess, false);
  return incidents.map((incident) => {
    const replacement = found.get(incident) ?? (open.includes(incident) ? null : incident.replacement);
    return replacement?.arrival === incident.replacement?.arrival ? incident : { ...incident, replacement };
  });
}

// Decides which new replica replaces which lost one. The functions are pure.
//
// The name identifies the replacement, whatever the order in which the replicas return: in Compose, a container that
// restarts keeps its name; in Swarm, a new task takes over the slot, which is part of the name; in Kubernetes, a pod
// whose container restarts keeps its name. The node does not identify the replacement, since an orchestrator may pick
// any node.

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
 * Without a sign, a stranger replaces the victim of the first crash without a replacement. A stranger is a new replica
 * whose name no missing replica had. A crash whose victim is not known may not have happened, so it comes last.
 */
const GUESSES = [
  (lost, found) => found.isStranger && lost.id !== null,
  (_, found) => found.isStranger,
];

/**
 * The incidents, in their order, each with its `replacement`: {at, id, arrival, isSure}, or null. An arrival is {at,
 * id, name, host, isBack, isStranger}. `roster` maps ids to {id, name, host}. A later sign corrects an earlier guess.
 */
export function withReplacements(incidents, arrivals, roster) {
  const free = new Set(arrivals);
  const found = new Map();
  const pair = (incident, replacement) => {
    free.delete(replacement.arrival);
    found.set(incident, replacement);
  };
  for (const incident of incidents) if (incident.replacement?.isSure) pair(incident, incident.replacement);
  for (const tells of [...SIGNS, ...GUESSES]) {
    for (const incident of incidents) {
      if (found.has(incident)) continue;
      const { victim, askedAt } = incident;
      const lost = roster.get(victim) ?? { id: victim };
      // The victim itself arrived before its crash, unless it has come back.
      const isLater = ({ at, id, isBack }) => at >= askedAt && (isBack || id !== victim);
      const arrival = [...free].find((each) => isLater(each) && tells(lost, each));
      if (arrival) pair(incident, { at: arrival.at, id: arrival.id, arrival, isSure: SIGNS.includes(tells) });
    }
  }
  return incidents.map((incident) => {
    const replacement = found.get(incident) ?? null;
    return replacement?.arrival === incident.replacement?.arrival ? incident : { ...incident, replacement };
  });
}

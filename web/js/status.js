// Chooses the sentence about the connection: the one that states the most important fact. The functions are pure.

/** The page reports failing requests for the list of replicas only once they have been failing for this long. */
export const WORTH_A_WORD_MS = 1_000;

/**
 * Returns the sentence's `{key, values, mood}`. `values.ms`, if present, is the duration that replaces `{age}` in the
 * translated text. In `facts`, `unreachableFor` is how long requests have been failing, and `quietFor` is the time until
 * the next request; both are in milliseconds, or null. `refusal` is the error code of refused sockets, or null.
 */
export function statusOf(facts) {
  const { sessions, live } = facts;
  const counts = { live, n: sessions };
  if (facts.refusal === "forbidden_origin") return { key: "status.forbidden_origin", values: { origin: facts.origin }, mood: "bad" };
  if (facts.unreachableFor !== null && facts.unreachableFor >= WORTH_A_WORD_MS) return unreachable(facts, counts);
  if (facts.quietFor !== null) {
    const key = sessions > 0 ? "status.too_often.running" : "status.too_often";
    return { key, values: { ...counts, ms: facts.quietFor }, mood: "doubt" };
  }
  if (!facts.isReady) return { key: "status.loading", values: {}, mood: "calm" };
  if (sessions > 0) return running(facts, counts);
  if (facts.limit < facts.most) return { key: "status.too_few_users", values: { n: facts.limit }, mood: "doubt" };
  return { key: "status.idle", values: { replica: facts.self ?? "?" }, mood: "good" };
}

// Connected sessions show that the service works, even if requests for the list of replicas fail.
function unreachable(facts, counts) {
  if (facts.connected > 0) return { key: "status.list_unanswered", values: counts, mood: "doubt" };
  if (!facts.isOnline) return { key: "status.offline", values: {}, mood: "bad" };
  return { key: "status.unreachable", values: { ms: facts.unreachableFor }, mood: "bad" };
}

function running(facts, counts) {
  if (counts.live === counts.n) return { key: "status.live", values: counts, mood: "good" };
  if (facts.refusal === "no_upgrade") return { key: "status.no_upgrade", values: {}, mood: "bad" };
  if (facts.refusal !== null) return { key: "status.refused", values: { ...counts, code: facts.refusal }, mood: "doubt" };
  return { key: "status.partly", values: counts, mood: "doubt" };
}

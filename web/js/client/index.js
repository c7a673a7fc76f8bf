// The client library: `Client`, its parts for separate use, and two modules that `Client` does not use. It runs
// unchanged in browsers and in Node.js 22 or later; docs/client.mjs is an example.
//
// Client   one user: `smile()`, `history()`, `onSmile`, `onState`. It survives crashes of the replicas. Its parts:
//   Session      one WebSocket at a time: welcome, resume from the highest offset, back-off with jitter, the server's
//                hints, the reaction to each close code, and the detection of a silent replica
//   Outbox       smiles without an ack, each sent again with the same id: after a temporary error, no sooner than the
//                server's hint allows; after a broken session, in the beats that follow the next welcome
//   DialQueue    limits how many of a page's sessions connect at the same time
//   PageTimers   a clock, and timers that run on time in a hidden page if workers are available
// Not used by `Client`:
//   Stream       for a proof of delivery: how far the user's stream has been seen, and where it has gaps
//   whyRefused   finds out why a socket is refused, since browsers hide the cause

export { Backoff, retryWait } from "./backoff.js";
export { Client, Refusal } from "./client.js";
export { DialQueue } from "./dial-queue.js";
export { Beat, Outbox } from "./outbox.js";
export { CloseAction, ResumePoint, closeAction, isOverload, parseFrame, smileFrame, socketUrl } from "./protocol.js";
export { whyRefused } from "./refused.js";
export { Session, SessionState } from "./session.js";
export { Fit, Stream } from "./stream.js";
export { PageTimers } from "./timers.js";

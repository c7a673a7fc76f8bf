// Owns what a client may import: everything that a session needs, and nothing of a page. It runs in a browser and in
// Node.js 22 or later as it is.

export { Backoff, retryWait } from "./backoff.js";
export { DialQueue } from "./dial-queue.js";
export { Beat, Outbox } from "./outbox.js";
export { CloseAction, ResumePoint, closeAction, isOverload, parseFrame, smileFrame, socketUrl } from "./protocol.js";
export { Session, SessionState } from "./session.js";
export { Fit, Stream } from "./stream.js";
export { PageTimers } from "./timers.js";

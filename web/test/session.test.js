import assert from "node:assert/strict";
import test from "node:test";
import { POLICY_WAIT_MS } from "../js/client/backoff.js";
import { DialQueue } from "../js/client/dial-queue.js";
import {
  CONNECT_LIMIT_MS, POSTPONE_SPREAD_MS, SILENCE_ASK_MS, SILENCE_LIMIT_MS, STABLE_MS, Session, SessionState,
} from "../js/client/session.js";
import { FakeSocket, FakeTimers, seededRandom, welcome } from "./support.js";

function setUp({ random = () => 0.5 } = {}) {
  const timers = new FakeTimers();
  const sockets = [];
  const heard = [];
  const states = [];
  const session = new Session({
    urlFor: (resume) => `ws://h/ws?user=anna${resume === null ? "" : `&after=${resume.after}&epoch=${resume.epoch}`}`,
    openSocket: (url) => {
      sockets.push(new FakeSocket(url));
      return sockets.at(-1);
    },
    timers,
    random,
    dialQueue: new DialQueue(),
    listener: {
      stateChanged: () => states.push(session.state),
      welcomed: () => heard.push("welcomed"),
      heard: (frame) => heard.push(frame.type),
      unreadable: () => heard.push("unreadable"),
      broken: () => heard.push("broken"),
    },
  });
  const live = (frame = {}) => {
    session.start();
    sockets.at(-1).tell(welcome({ offset: 100, ...frame }));
  };
  return { timers, sockets, heard, states, session, live };
}

test("a session connects and is live once welcomed", () => {
  const { session, sockets, heard, live } = setUp();
  live();
  assert.equal(session.state, SessionState.LIVE);
  assert.equal(session.replica, "be1.1");
  assert.equal(session.reconnects, 0);
  assert.equal(sockets[0].url.search, "?user=anna");
  assert.deepEqual(heard, ["welcomed"]);
});

test("frames reach the listener, and an unreadable one is reported but does not end the session", () => {
  const { sockets, heard, live, session } = setUp();
  live();
  sockets[0].tell({ type: "smile", offset: 101, id: "c", from: "b", to: "a", smile: "😀" });
  sockets[0].tell("{not a frame");
  assert.deepEqual(heard, ["welcomed", "smile", "unreadable"]);
  assert.equal(session.state, SessionState.LIVE);
});

test("a session reconnects with its resume point, and is resuming until it has caught up", () => {
  const { session, sockets, timers, heard, live } = setUp();
  live();
  sockets[0].tell({ type: "ack", id: "c", offset: 120, duplicate: false });
  timers.advance(STABLE_MS / 2);
  sockets[0].tell({ type: "pong" });
  timers.advance(STABLE_MS / 2);
  sockets[0].end(1006);
  assert.equal(session.state, SessionState.WAITING);
  assert.equal(session.closeReason.name, "connection_lost");
  assert.equal(session.retryAt - timers.now(), 50);
  timers.advance(50);
  assert.equal(session.state, SessionState.CONNECTING);
  assert.equal(sockets[1].url.search, "?user=anna&after=120&epoch=e1");
  sockets[1].tell(welcome({ offset: 120, recovered: true, replica: "be2.1" }));
  assert.equal(session.state, SessionState.RESUMING);
  assert.equal(session.reconnects, 1);
  session.caughtUp();
  assert.equal(session.state, SessionState.LIVE);
  assert.deepEqual(heard, ["welcomed", "ack", "pong", "broken", "welcomed"]);
});

test("a session that could not resume is live once welcomed", () => {
  const { session, sockets, timers, live } = setUp();
  live();
  sockets[0].end(1006);
  timers.advance(100);
  sockets[1].tell(welcome({ offset: 5, epoch: "e2" }));
  assert.equal(session.state, SessionState.LIVE);
});

test("each failed attempt is followed by a longer wait, up to the cap", () => {
  const { session, sockets, timers } = setUp({ random: () => 1 });
  session.start();
  const waits = [];
  for (let attempt = 0; attempt < 8; attempt += 1) {
    sockets.at(-1).end(1006);
    waits.push(session.retryAt - timers.now());
    timers.advance(waits.at(-1));
  }
  assert.deepEqual(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
  assert.equal(session.attempt, 8);
});

test("only a session that lasted for STABLE_MS resets the back-off", () => {
  const { session, sockets, timers, live } = setUp({ random: () => 1 });
  live();
  for (const wait of [100, 200, 400]) {
    sockets.at(-1).end(1011);
    assert.equal(session.retryAt - timers.now(), wait);
    timers.advance(wait);
    sockets.at(-1).tell(welcome({ offset: 100, recovered: true }));
  }
  for (let second = 0; second < STABLE_MS; second += 1_000) {
    timers.advance(1_000);
    sockets.at(-1).tell({ type: "pong" });
  }
  sockets.at(-1).end(1011);
  assert.equal(session.retryAt - timers.now(), 100);
});

test("only a connection that the server closes before its welcome counts as refused", () => {
  const { session, sockets, timers } = setUp();
  const ended = () => {
    const { isRefusal } = session.closeReason;
    timers.advanceUntil(() => session.state === SessionState.CONNECTING);
    return isRefusal;
  };
  session.start();
  sockets[0].end(1006);
  assert.equal(ended(), true);
  sockets[1].tell(welcome());
  sockets[1].end(1006);
  assert.equal(ended(), false);
  timers.advanceUntil(() => session.state === SessionState.WAITING);
  assert.deepEqual([session.closeReason.name, ended()], ["no_welcome", false]);
});

test("in Node.js 22, a connection that does not open counts as refused and is followed by the usual wait", () => {
  const { session, sockets, timers, heard } = setUp();
  session.start();
  sockets[0].fail();
  assert.deepEqual([session.closeReason.name, session.closeReason.isRefusal], ["connection_lost", true]);
  assert.equal(session.retryAt - timers.now(), 50);
  assert.deepEqual([heard, sockets[0].onerror], [["broken"], null]);
});

test("an error of an open connection is left to the close that follows it", () => {
  const { session, sockets, live } = setUp();
  live();
  sockets[0].fail();
  assert.equal(session.state, SessionState.LIVE);
});

test("without a welcome in time, an attempt to connect is given up, and another one follows", () => {
  const { session, sockets, timers } = setUp();
  session.start();
  timers.advance(CONNECT_LIMIT_MS);
  assert.equal(session.state, SessionState.WAITING);
  assert.equal(session.closeReason.name, "no_welcome");
  assert.equal(sockets[0].closedWith, 1000);
  assert.equal(sockets[0].onclose, null);
  timers.advance(100);
  assert.equal(sockets.length, 2);
});

test("the time limit of an attempt doubles from the second failure on, up to four times the first limit", () => {
  const { session, sockets, timers } = setUp({ random: () => 0 });
  session.start();
  for (const limit of [1, 1, 2, 4, 4].map((times) => times * CONNECT_LIMIT_MS)) {
    const before = sockets.length;
    timers.advance(limit - 1);
    assert.equal(sockets.length, before, `the attempt was given up before ${limit} ms`);
    timers.advance(1);
    timers.advance(0);
    assert.equal(sockets.length, before + 1, `the attempt was not given up after ${limit} ms`);
  }
});

test("a drained session reconnects exactly when the server's hint says", () => {
  for (const code of [1012, 4002]) {
    const { session, sockets, timers, live } = setUp();
    live();
    sockets[0].tell({ type: "drain", reconnect_after_ms: 730 });
    timers.advance(100);
    sockets[0].end(code);
    assert.equal(session.retryAt - timers.now(), 630);
    session.hurry();
    assert.equal(session.retryAt - timers.now(), 630);
    timers.advance(629);
    assert.equal(sockets.length, 1);
    timers.advance(1);
    assert.equal(sockets.length, 2);
  }
});

test("a hint applies to one reconnect only", () => {
  const { session, sockets, timers, live } = setUp();
  live();
  sockets[0].tell({ type: "drain", reconnect_after_ms: 730 });
  sockets[0].end(1012);
  timers.advance(730);
  sockets[1].end(1006);
  assert.equal(session.retryAt - timers.now(), 50);
});

test("after a close for an invalid frame there is no retry", () => {
  for (const code of [1002, 1003, 1007, 1009]) {
    const { session, sockets, timers, live } = setUp();
    live();
    sockets[0].end(code, "why");
    assert.equal(session.state, SessionState.FAILED);
    assert.deepEqual([session.closeReason.code, session.closeReason.text], [code, "why"]);
    timers.advance(60_000);
    assert.equal(sockets.length, 1);
    assert.equal(timers.pending, 0);
  }
});

test("after a close for a policy violation the back-off is long and is never shortened", () => {
  const { session, sockets, timers, live } = setUp({ random: () => 0 });
  live();
  sockets[0].end(1008);
  session.hurry();
  assert.equal(session.retryAt - timers.now(), POLICY_WAIT_MS);
});

test("a silent server is pinged, shown as silent, then dropped", () => {
  const { session, sockets, timers, live } = setUp();
  live();
  timers.advance(SILENCE_ASK_MS);
  assert.deepEqual(sockets[0].sent, [{ type: "ping" }]);
  assert.equal(session.state, SessionState.LIVE);
  timers.advanceUntil(() => session.state === SessionState.SILENT);
  timers.advanceUntil(() => session.state === SessionState.WAITING);
  assert.equal(timers.now(), SILENCE_ASK_MS + SILENCE_LIMIT_MS);
  assert.equal(session.closeReason.name, "silent");
  sockets[0].tell({ type: "pong" });
  assert.equal(session.state, SessionState.WAITING);
});

test("a session is live again when its silent server answers", () => {
  const { session, sockets, timers, live } = setUp();
  live();
  timers.advanceUntil(() => session.state === SessionState.SILENT);
  sockets[0].tell({ type: "pong" });
  assert.equal(session.state, SessionState.LIVE);
  timers.advance(SILENCE_LIMIT_MS - SILENCE_ASK_MS);
  assert.equal(sockets.length, 1);
});

test("when the backend is back, a session reconnects within half a second instead of finishing its back-off", () => {
  const { session, sockets, timers } = setUp({ random: () => 0.99 });
  session.start();
  for (let attempt = 0; attempt < 7; attempt += 1) {
    sockets.at(-1).end(1006);
    if (attempt < 6) timers.advance(session.retryAt - timers.now());
  }
  assert.ok(session.retryAt - timers.now() > 4_000);
  const before = sockets.length;
  session.hurry();
  timers.advance(500);
  assert.equal(sockets.length, before + 1);
});

test("a session stopped while connecting, live or waiting closes normally and leaves no timer pending", () => {
  const reach = {
    connecting: ({ session }) => session.start(),
    live: ({ live }) => live(),
    waiting: ({ live, sockets }) => {
      live();
      sockets[0].end(1006);
    },
  };
  for (const [state, go] of Object.entries(reach)) {
    const parts = setUp();
    go(parts);
    assert.equal(parts.session.state, state);
    parts.session.stop();
    assert.equal(parts.session.state, SessionState.STOPPED);
    assert.equal(parts.timers.pending, 0);
    if (state !== "waiting") assert.equal(parts.sockets[0].closedWith, 1000);
  }
});

test("no frame is sent before the welcome", () => {
  const { session, sockets } = setUp();
  session.send("lost");
  session.start();
  session.send("lost");
  assert.deepEqual(sockets[0].sent, []);
});

test("after a silence a session returns to its previous state", () => {
  const { session, sockets, timers, live } = setUp();
  live({ offset: 120, recovered: true });
  assert.equal(session.state, SessionState.RESUMING);
  timers.advanceUntil(() => session.state === SessionState.SILENT);
  sockets[0].tell({ type: "pong" });
  assert.equal(session.state, SessionState.RESUMING);
  session.caughtUp();
  timers.advanceUntil(() => session.state === SessionState.SILENT);
  sockets[0].tell({ type: "pong" });
  assert.equal(session.state, SessionState.LIVE);
});

test("a postponed session waits for the given time plus a spread, unless it already waits longer", () => {
  const { session, sockets, timers, live } = setUp();
  live();
  session.postpone(3_000);
  assert.equal(session.state, SessionState.LIVE);
  sockets[0].end(1006);
  session.postpone(3_000);
  assert.equal(session.retryAt - timers.now(), 3_000 + POSTPONE_SPREAD_MS / 2);
  session.postpone(1_000);
  assert.equal(session.retryAt - timers.now(), 3_000 + POSTPONE_SPREAD_MS / 2);
  timers.advance(3_000 + POSTPONE_SPREAD_MS / 2);
  assert.equal(sockets.length, 2);
});

test("a postponed session is not hurried, even if its back-off is longer than the hint", () => {
  for (const [hint, wait] of [[6_000, 6_000 + POSTPONE_SPREAD_MS / 2], [1_000, 1_600]]) {
    const { session, sockets, timers } = setUp();
    session.start();
    for (let attempt = 0; attempt < 6; attempt += 1) {
      sockets.at(-1).end(1006);
      if (attempt < 5) timers.advance(session.retryAt - timers.now());
    }
    session.postpone(hint);
    session.hurry();
    assert.equal(session.retryAt - timers.now(), wait);
    timers.advance(wait);
    sockets.at(-1).end(1006);
    session.hurry();
    assert.equal(session.retryAt - timers.now(), 250);
  }
});

test("a session that is postponed without a hint can still be hurried", () => {
  const { session, sockets, timers } = setUp({ random: () => 0.99 });
  session.start();
  for (let attempt = 0; attempt < 7; attempt += 1) {
    sockets.at(-1).end(1006);
    if (attempt < 6) timers.advance(session.retryAt - timers.now());
  }
  session.postpone(0);
  session.hurry();
  assert.ok(session.retryAt - timers.now() < 500);
});

test("in a browser, the sessions of a page connect on their first attempt, however slow the link", () => {
  const timers = new FakeTimers();
  const random = seededRandom(2);
  const dialQueue = new DialQueue();
  const sockets = [];
  let connected = 0;
  // A browser dials a socket once all earlier sockets are open or closed. A dial takes three round trips of 600 ms.
  const dial = () => {
    const socket = sockets.find(({ readyState }) => readyState === 0);
    if (socket === undefined || socket.isDialled) return;
    socket.isDialled = true;
    timers.after(1_800, () => socket.readyState === 0 && socket.tell(welcome()));
  };
  const openSocket = (url) => {
    sockets.push(new FakeSocket(url));
    timers.after(0, dial);
    return sockets.at(-1);
  };
  for (let user = 0; user < 10; user += 1) {
    const welcomed = () => {
      connected += 1;
      session.stop();
    };
    const listener = { welcomed, broken: dial, stateChanged: () => {} };
    const session = new Session({ urlFor: () => "ws://h/ws", openSocket, timers, random, dialQueue, listener });
    session.start();
  }
  timers.advanceUntil(() => connected === 10);
  assert.equal(sockets.length, 10, "a session gave up before its socket was open");
});

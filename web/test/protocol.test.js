import assert from "node:assert/strict";
import test from "node:test";
import {
  CloseAction, ResumePoint, closeAction, closeName, isOverload, parseFrame, pingFrame, smileFrame, socketUrl,
} from "../js/client/protocol.js";
import { welcome } from "./support.js";

test("the URL of a session is relative to the page's URL, and uses TLS if the page does", () => {
  assert.equal(socketUrl("http://127.0.0.1:8080/?start", "anna"), "ws://127.0.0.1:8080/ws?user=anna");
  assert.equal(socketUrl("https://chat.example/sub/", "anna"), "wss://chat.example/sub/ws?user=anna");
});

test("the URL of a resume contains the offset and its epoch, escaped", () => {
  const url = new URL(socketUrl("http://h/#top", "a&b", { after: 117, epoch: "x+y" }));
  assert.equal(url.hash, "");
  assert.deepEqual(Object.fromEntries(url.searchParams), { user: "a&b", after: "117", epoch: "x+y" });
});

test("outgoing frames follow the protocol", () => {
  assert.deepEqual(JSON.parse(smileFrame({ id: "c1", to: "bruno", smile: "😀", other: 1 })), {
    type: "smile", id: "c1", to: "bruno", smile: "😀",
  });
  assert.deepEqual(JSON.parse(pingFrame()), { type: "ping" });
});

test("well-formed frames are parsed, unknown types and fields included", () => {
  const frames = [
    welcome(),
    { type: "ack", id: "c1", offset: 3, duplicate: false },
    { type: "smile", offset: 4, id: "c2", from: "bruno", to: "anna", smile: "😁", at: "now", more: true },
    { type: "error", code: "overloaded", message: "", temporary: true, retry_after_ms: 40 },
    { type: "drain", reconnect_after_ms: 730 },
    { type: "pong" },
    { type: "toString" },
  ];
  for (const frame of frames) assert.deepEqual(parseFrame(JSON.stringify(frame)), frame);
});

test("text that is not a valid frame parses to null", () => {
  const broken = [
    "", "hello", "null", "7", "[]", "{}", '{"type":7}',
    '{"type":"ack","id":"c1","offset":-1,"duplicate":false}',
    '{"type":"ack","id":"c1","offset":1.5,"duplicate":false}',
    '{"type":"ack","id":"c1","offset":9007199254740993,"duplicate":false}',
    '{"type":"ack","id":"c1","offset":1}',
    '{"type":"smile","offset":1,"id":"c1","from":"a","to":"b"}',
    '{"type":"welcome","replica":"be1","offset":1,"recovered":false}',
    '{"type":"error","code":"overloaded"}',
    '{"type":"drain"}',
  ];
  for (const text of broken) assert.equal(parseFrame(text), null, `a frame was parsed from: ${text}`);
});

test("the client reacts to each close code as the protocol requires", () => {
  for (const code of [1002, 1003, 1007, 1009]) assert.equal(closeAction(code), CloseAction.GIVE_UP);
  for (const code of [1000, 1001, 1006, 1011, 1012, 1013, 4000, 4001, 4002, 4999]) {
    assert.equal(closeAction(code), CloseAction.RETRY);
  }
  assert.equal(closeAction(1008), CloseAction.RETRY_LATE);
  assert.equal(closeName(4002), "rebalance");
  assert.equal(closeName(4999), "connection_lost");
});

test("the temporary error codes count as overload errors", () => {
  for (const code of ["overloaded", "rate_limited", "store_unavailable"]) assert.ok(isOverload(code));
  for (const code of ["bad_request", "not_a_smile", "unknown_user"]) assert.ok(!isOverload(code));
});

test("the resume point follows only welcomes, smiles and acks with duplicate: false", () => {
  const point = new ResumePoint();
  assert.equal(point.query, null);
  point.observe(welcome({ offset: 10 }));
  assert.deepEqual(point.query, { after: 10, epoch: "e1" });
  point.observe({ type: "smile", offset: 12 });
  point.observe({ type: "ack", offset: 15, duplicate: false });
  point.observe({ type: "ack", offset: 99, duplicate: true });
  point.observe({ type: "pong" });
  assert.deepEqual(point.query, { after: 15, epoch: "e1" });
});

test("a welcome with recovered: true at the resume point keeps it, and one with recovered: false sets it", () => {
  const point = new ResumePoint();
  point.observe(welcome({ offset: 10 }));
  point.observe({ type: "smile", offset: 12 });
  point.observe(welcome({ offset: 12, recovered: true }));
  assert.deepEqual(point.query, { after: 12, epoch: "e1" });
  point.observe(welcome({ offset: 5, recovered: false }));
  assert.deepEqual(point.query, { after: 5, epoch: "e1" });
  point.observe(welcome({ offset: 2, recovered: false, epoch: "e2" }));
  assert.deepEqual(point.query, { after: 2, epoch: "e2" });
});

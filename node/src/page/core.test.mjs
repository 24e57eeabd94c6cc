// node --test core.test.mjs: the page's core against scripted frames.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Core, privateId, uuidv7 } from "./core.js";

const GROUP = "g:0190c0de-0000-7000-8000-000000000001";

function core(outbox) {
  let made = 0;
  const options = { makeId: () => `id-${++made}`, random: () => 1, outbox };
  return new Core({ user: "alice", app: "main", password: "secret-pw", device: "tab" }, options);
}

const sent = (effects) => effects.filter((e) => e.send).map((e) => e.send);
const types = (effects) => sent(effects).map((frame) => frame.type);
const frame = (core, value) => core.received(JSON.stringify(value));

/** Through login and resume. */
function live(page, conversations = []) {
  const [login] = sent(page.opened());
  const [resume] = sent(frame(page, { type: "hello", re: login.id, user: "alice", app: "main", node: 2, cluster: "c" }));
  const effects = frame(page, { type: "resumed", re: resume.id, conversations });
  return { login, resume, effects };
}

const message = (conversation, seq, from, text, client_msg_id = `other-${seq}`) => ({
  type: "event", conversation, seq, time_ms: seq, event: "message", from, client_msg_id, body: { kind: "text", text },
});

test("a UUIDv7 carries its time, version and variant", () => {
  const id = uuidv7(0x0123456789ab, new Uint8Array(16).fill(0xff));
  assert.equal(id, "01234567-89ab-7fff-bfff-ffffffffffff");
});

test("private ids are the same from both sides", () => {
  assert.equal(privateId("bob", "alice"), "p:alice:bob");
  assert.equal(privateId("alice", "bob"), "p:alice:bob");
});

test("login comes first, then resume, then the list", () => {
  const page = core();
  const { login, resume, effects } = live(page);
  assert.deepEqual(login.auth, { password: { app: "main", user: "alice", password: "secret-pw" } });
  assert.deepEqual(resume.have, []);
  assert.equal(page.phase, "live");
  assert.deepEqual(types(effects), ["conversations"]);
});

test("a message keeps its id over a lost connection and leaves the outbox once, when it is stored", () => {
  const page = core();
  live(page, [{ conversation: "p:alice:bob", live_after: 0, head: 0 }]);
  page.select("p:alice:bob");
  const [first] = sent(page.sendText("hello"));
  assert.deepEqual([first.type, first.to], ["send", { user: "bob" }]);

  const [wait] = page.closed(1006, "");
  assert.equal(page.phase, "waiting");
  assert.equal(wait.connect, 150);
  assert.equal(page.pending("p:alice:bob").length, 1);

  const { effects } = live(page);
  const again = sent(effects).find((f) => f.type === "send");
  assert.equal(again.client_msg_id, first.client_msg_id);
  assert.notEqual(again.id, first.id);

  const persisted = frame(page, { type: "ack", re: again.id, conversation: "p:alice:bob", seq: 1, epoch: 1, duplicate: true });
  assert.deepEqual(persisted, [{ persist: [] }]);
  frame(page, message("p:alice:bob", 1, "alice", "hello", first.client_msg_id));
  assert.deepEqual(page.conversations.get("p:alice:bob").events.map((e) => e.seq), [1]);
});

test("what the service refuses for good is shown; what it cannot do now is tried again", () => {
  const page = core();
  live(page);
  page.startPrivate("bob");
  const [one] = sent(page.sendText("one"));
  const busy = { type: "error", re: one.id, code: 1501, name: "overloaded", message: "full", retryable: true, retry_after_ms: 70 };
  assert.deepEqual(frame(page, busy), [{ retry: one.client_msg_id, delay_ms: 70 }]);
  const [two] = sent(page.retry(one.client_msg_id));
  assert.equal(two.client_msg_id, one.client_msg_id);
  frame(page, { type: "error", re: two.id, code: 1303, name: "user_not_found", message: "no bob", retryable: false });
  assert.match(page.pending("p:alice:bob")[0].failed, /C1303/);
  assert.deepEqual(page.retry(one.client_msg_id), []);
});

test("events are taken once, in order, and resume says how far they go", () => {
  const page = core();
  live(page, [{ conversation: GROUP, live_after: 4, head: 4 }]);
  frame(page, message(GROUP, 5, "bob", "five"));
  frame(page, message(GROUP, 6, "bob", "six"));
  frame(page, message(GROUP, 6, "bob", "six"));
  assert.deepEqual(page.conversations.get(GROUP).events.map((e) => e.seq), [5, 6]);
  page.closed(4000, "");
  const { resume } = live(page, [{ conversation: GROUP, live_after: 6, head: 6 }]);
  assert.deepEqual(resume.have, [{ conversation: GROUP, seq: 6 }]);
  assert.equal(page.conversations.get(GROUP).events.length, 2);
});

test("history fills in before what is held", () => {
  const page = core();
  live(page, [{ conversation: GROUP, live_after: 2, head: 2 }]);
  const [ask] = sent(page.select(GROUP));
  assert.deepEqual([ask.type, ask.before], ["history", 3]);
  frame(page, message(GROUP, 3, "bob", "three"));
  const events = [message(GROUP, 1, "bob", "one"), message(GROUP, 2, "bob", "two")];
  frame(page, { type: "history", re: ask.id, conversation: GROUP, events, head: 3, more: false });
  assert.deepEqual(page.conversations.get(GROUP).events.map((e) => e.seq), [1, 2, 3]);
  assert.deepEqual(page.loadOlder(), []);
});

test("unread comes from positions and falls to nothing when the conversation is looked at", () => {
  const page = core();
  live(page, [{ conversation: GROUP, live_after: 9, head: 9 }]);
  const item = { conversation: GROUP, name: "g", head: 9, read: 2, unread: 7, joined: 5, role: "member", members: 3 };
  frame(page, { type: "conversations", re: 0, items: [item], more: false });
  const group = page.conversations.get(GROUP);
  assert.equal(page.unread(group), 5);
  const read = sent(page.select(GROUP)).find((f) => f.type === "read");
  assert.equal(read.seq, 9);
  frame(page, { type: "ack", re: read.id, conversation: GROUP, seq: 9, epoch: 1, duplicate: false });
  assert.equal(page.unread(group), 0);
});

test("refused logins and stopping close codes end the attempts", () => {
  const refused = core();
  const [login] = sent(refused.opened());
  const [stop] = frame(refused, { type: "error", re: login.id, code: 1203, name: "bad_credentials", message: "no", retryable: false });
  assert.match(stop.stop, /C1203/);
  assert.deepEqual(refused.closed(4503, ""), []);
  const ended = core();
  live(ended);
  assert.ok(ended.closed(4507, "logged out")[0].stop);
});

test("reconnects slow down to a limit and start fast again", () => {
  const page = core();
  const delays = Array.from({ length: 8 }, () => page.closed(1006, "")[0].connect);
  assert.deepEqual(delays, [150, 300, 600, 1200, 2400, 4800, 5000, 5000]);
  live(page);
  assert.equal(page.closed(1006, "")[0].connect, 150);
});

test("a removed conversation is gone, also after a resume, and unknown frames are passed over", () => {
  const page = core();
  live(page, [{ conversation: GROUP, live_after: 3, head: 3 }]);
  page.select(GROUP);
  frame(page, { type: "conversation_removed", conversation: GROUP });
  assert.deepEqual([page.selected, page.list().length], [null, 0]);
  assert.deepEqual(frame(page, { type: "from_the_future", x: 1 }), []);
  assert.deepEqual(page.received("not json"), []);
  page.closed(1006, "");
  assert.deepEqual(live(page).resume.have, []);
});

test("an edit changes the message that is held, and a recall leaves nothing of either", () => {
  const page = core();
  live(page, [{ conversation: GROUP, live_after: 0, head: 0 }]);
  const event = (seq, event, more) => frame(page, { type: "event", conversation: GROUP, seq, time_ms: seq, event, by: "bob", target: 1, ...more });
  frame(page, message(GROUP, 1, "bob", "helo"));
  event(2, "edited", { client_msg_id: "e", body: { kind: "text", text: "hello" } });
  const { events } = page.conversations.get(GROUP);
  assert.deepEqual([events[0].body.text, events[0].edited_seq], ["hello", 2]);
  event(3, "recalled");
  assert.deepEqual([events[0].body, events[1].body, events[0].recalled], [undefined, undefined, { by: "bob" }]);
  assert.equal(JSON.stringify(events).includes("hello"), false);
});

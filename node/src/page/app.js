// The chat page's shell: the WebSocket, the clock, sessionStorage and the screen. What to do is decided in core.js.
// Everything that users wrote reaches the screen as textContent.

import { Core, uuidv7 } from "/page/core.js";

const PING_MS = 15_000;
/** A connection that has said nothing for this long is dead. */
const SILENCE_MS = 40_000;
/** Events of one conversation kept on the screen. */
const SHOWN = 400;

const at = (id) => document.getElementById(id);
const makeId = () => uuidv7(Date.now(), crypto.getRandomValues(new Uint8Array(16)));
const random = () => crypto.getRandomValues(new Uint32Array(1))[0] / 2 ** 32;

let core = null;
let socket = null;
let heardAt = 0;
let attempt = 0;
/** This page's own node first: a browser has accepted its certificate, perhaps no other's. */
let urls = [`${location.protocol === "http:" ? "ws" : "wss"}://${location.host}/v1/connect`];

// ---- effects ----

function run(effects) {
  for (const effect of effects) {
    if (effect.send) socket?.send(JSON.stringify(effect.send));
    if (effect.connect !== undefined) setTimeout(connect, effect.connect);
    if (effect.retry) setTimeout(() => core && run(core.retry(effect.retry)), effect.delay_ms);
    if (effect.persist) store("outbox", effect.persist);
    if (effect.stop) end(effect.stop);
  }
  schedule();
}

function connect() {
  if (!core || core.phase === "stopped") return;
  core.phase = "connecting";
  const mine = new WebSocket(urls[attempt++ % urls.length], "campanile.v1.json");
  socket = mine;
  heardAt = Date.now();
  mine.onopen = () => mine === socket && run(core.opened());
  mine.onmessage = ({ data }) => {
    if (mine !== socket) return;
    heardAt = Date.now();
    run(core.received(data));
    if (core?.phase === "live") attempt = 0;
  };
  mine.onclose = ({ code, reason }) => {
    if (mine !== socket) return;
    socket = null;
    run(core.closed(code, reason));
  };
  schedule();
}

setInterval(() => {
  if (!socket || !core) return;
  if (Date.now() - heardAt > SILENCE_MS) {
    // close() waits for an answer that will not come: this connection is over now.
    const dead = socket;
    socket = null;
    dead.close();
    run(core.closed(1006, "silence"));
  } else run(core.ping());
}, PING_MS);

async function learnNodes() {
  try {
    const { nodes } = await (await fetch("/v1/nodes")).json();
    const others = nodes.map((node) => node.url).filter((url) => new URL(url).host !== location.host);
    urls = [urls[0], ...others];
  } catch {
    // One node is enough to go on with.
  }
}

// ---- the session, one per tab ----

const store = (name, value) => sessionStorage.setItem(name, JSON.stringify(value));
const stored = (name) => JSON.parse(sessionStorage.getItem(name) ?? "null");

function begin(profile) {
  store("profile", profile);
  const outbox = (stored("outbox") ?? []).filter((entry) => entry.conversation.split(":").includes(profile.user) || entry.conversation.startsWith("g:"));
  core = new Core(profile, { makeId, random, outbox });
  at("login").hidden = true;
  at("chat").hidden = false;
  at("me").textContent = profile.user;
  document.title = `${profile.user} · Campanile`;
  connect();
}

function end(why) {
  sessionStorage.clear();
  const dead = socket;
  socket = null;
  core = null;
  dead?.close();
  at("chat").hidden = true;
  at("login").hidden = false;
  at("login-notice").textContent = why;
}

// ---- the screen ----

let scheduled = false;
function schedule() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    if (core) draw();
  });
}

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function draw() {
  const words = { connecting: "connecting", login: "logging in", waiting: "connecting again", stopped: "ended" };
  const state = at("state");
  state.textContent = core.phase === "live" ? `node ${core.session.node}` : words[core.phase];
  state.dataset.phase = core.phase;
  at("notice").textContent = core.notice;
  at("conversations").replaceChildren(...core.list().map(conversationItem));
  drawPane();
}

function conversationItem(conversation) {
  const button = make("button");
  button.setAttribute("aria-current", conversation.id === core.selected);
  button.append(make("span", "name", core.title(conversation)));
  const unread = core.unread(conversation);
  if (unread) button.append(make("span", "unread", unread > 999 ? "999+" : unread));
  button.onclick = () => run(core.select(conversation.id));
  const item = make("li");
  item.append(button);
  return item;
}

let shown = "";
function drawPane() {
  const conversation = core.conversations.get(core.selected);
  at("chat").dataset.open = Boolean(conversation);
  at("compose").hidden = !conversation;
  const group = conversation?.id.startsWith("g:");
  at("invite").hidden = !group;
  at("title").textContent = conversation ? core.title(conversation) : "Choose a conversation";
  at("about").textContent = group && conversation.listed ? `${conversation.members} members, you are ${conversation.role}` : "";
  const list = at("messages");
  if (!conversation) return list.replaceChildren();

  const following = shown !== conversation.id || list.scrollHeight - list.scrollTop - list.clientHeight < 80;
  const distance = list.scrollHeight - list.scrollTop;
  const rows = conversation.events.slice(-SHOWN).map((event) => eventRow(event, conversation));
  rows.push(...core.pending(conversation.id).map(pendingRow));
  if (conversation.more) rows.unshift(olderRow(conversation));
  list.replaceChildren(...rows);
  list.scrollTop = following ? list.scrollHeight : list.scrollHeight - distance;
  shown = conversation.id;
}

function olderRow(conversation) {
  const row = make("li", "note");
  const button = make("button", "quiet", conversation.loading ? "loading…" : "Show earlier messages");
  button.onclick = () => run(core.loadOlder());
  row.append(button);
  return row;
}

function eventRow(event, conversation) {
  const time = new Date(event.time_ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (event.event !== "message") return make("li", "note", `${sentence(event)} · ${time}`);
  const own = event.from === core.profile.user;
  const row = make("li", own ? "own" : "");
  // One tick: stored on a majority of the nodes' disks. Two: the other side of a private chat has read it.
  const ticks = !own ? "" : conversation.peerRead >= event.seq ? " ✓✓" : " ✓";
  row.append(make("span", "meta", `${time}${ticks}`));
  const action = event.body?.kind === "action";
  row.append(make("span", "from", action ? `* ${event.from}` : event.from), document.createTextNode(said(event)));
  return row;
}

function said({ body, edited_seq }) {
  if (!body) return "(recalled)";
  const edited = edited_seq ? " (edited)" : "";
  switch (body.kind) {
    case "text": case "action": return body.text + edited;
    case "location": return `[${body.label || "location"}: ${body.latitude}, ${body.longitude}]`;
    case "contact": return `[${body.name}: ${body.user}]`;
    case "merged": return `[${body.title}: ${body.items.length} messages]`;
    default: return `[${body.kind}]${edited}`;
  }
}

function pendingRow(entry) {
  const row = make("li", entry.failed ? "own failed" : "own");
  row.append(make("span", "meta", entry.failed ? "not sent" : "…"));
  row.append(make("span", "from", core.profile.user), document.createTextNode(entry.text));
  if (entry.failed) {
    const button = make("button", "quiet", `${entry.failed} (remove)`);
    button.onclick = () => run(core.discard(entry.client_msg_id));
    row.append(button);
  }
  return row;
}

function sentence(event) {
  switch (event.event) {
    case "group_created": return `${event.by} created “${event.name}” with ${event.members.length + 1} members`;
    case "joined": return event.users.length === 1 && event.users[0] === event.by ? `${event.by} joined` : `${event.by} added ${event.users.join(", ")}`;
    case "left": return `${event.user} left`;
    case "kicked": return `${event.by} removed ${event.user}`;
    case "role_changed": return `${event.by} made ${event.user} ${event.role}`;
    case "edited": return `${event.by} edited a message`;
    case "recalled": return `${event.by} recalled a message`;
    case "reacted": return event.on ? `${event.by} reacted: ${event.reaction}` : `${event.by} took back: ${event.reaction}`;
    case "pinned": return `${event.by} pinned a message`;
    case "unpinned": return `${event.by} unpinned a message`;
    default: return event.event;
  }
}

// ---- what the user does ----

const words = (text) => text.split(/[\s,]+/).filter(Boolean);

function onSubmit(id, act) {
  at(id).addEventListener("submit", (event) => {
    event.preventDefault();
    const form = event.target;
    const fields = Object.fromEntries(new FormData(form));
    act(fields);
    if (id !== "login") form.reset();
  });
}

onSubmit("login", ({ user, password, app }) => {
  at("login-notice").textContent = "";
  at("login").elements.password.value = "";
  begin({ user: user.trim(), password, app: app.trim(), device: `web-${makeId()}` });
});
onSubmit("new-private", ({ user }) => run(core.startPrivate(user.trim())));
onSubmit("new-group", ({ name, members }) => run(core.createGroup(name.trim(), words(members))));
onSubmit("invite", ({ users }) => run(core.invite(words(users))));
onSubmit("compose", ({ text }) => text.trim() && run(core.sendText(text)));
at("leave").onclick = () => run(core.leave());
at("logout").onclick = () => {
  run(core.ask({ type: "logout" }, { is: "logout" }));
  end("");
};
at("back").onclick = () => {
  core.selected = null;
  schedule();
};
at("compose").elements.text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  at("compose").requestSubmit();
});
document.addEventListener("visibilitychange", () => {
  if (!core) return;
  core.looking = !document.hidden;
  if (core.looking) run(core.markRead());
});

// The demo's links name the user: …/#alice
at("login").elements.user.value = decodeURIComponent(location.hash.slice(1));
await learnNodes();
const profile = stored("profile");
if (profile) begin(profile);

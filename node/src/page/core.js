// What the chat page knows and decides, without a browser: frames and commands come in, effects go out.
// The view (app.js) owns the WebSocket, the clock and the screen; core.test.mjs runs this file alone.
//
// Effects: {send: frame} · {connect: delay_ms} · {stop: why} · {persist: outbox}

/** Events of a conversation asked for at once. */
const HISTORY_PAGE = 60;
/** With fewer than this, earlier ones are asked for unbidden. */
const SCREENFUL = 30;
const BACKOFF_MS = { first: 150, most: 5_000 };
const RETRY_MS = 1_000;

/** A UUIDv7 (RFC 9562): 48 bits of milliseconds, then random bits. `random` is 16 random bytes. */
export function uuidv7(time_ms, random) {
  const bytes = Uint8Array.from(random);
  for (let i = 0; i < 6; i++) bytes[i] = Math.floor(time_ms / 2 ** (8 * (5 - i))) % 256;
  bytes[6] = 0x70 | (bytes[6] & 0x0f);
  bytes[8] = 0x80 | (bytes[8] & 0x3f);
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** The id of the private conversation of two users: they stand in byte order. */
export function privateId(a, b) {
  return a <= b ? `p:${a}:${b}` : `p:${b}:${a}`;
}

/** Where a message for a conversation goes, as `send` wants it. */
function targetOf(conversation, user) {
  if (conversation.startsWith("g:")) return { group: conversation.slice(2) };
  const [, a, b] = conversation.split(":");
  return { user: a === user ? b : a };
}
/** Events after which the list shows something else of the conversation. */
const MEMBERSHIP = ["group_created", "joined", "kicked", "role_changed"];

export class Core {
  /** `profile`: {user, app, password, device}; `outbox`: what an earlier page had not got acked. */
  constructor(profile, { makeId, random, outbox = [] }) {
    this.profile = profile;
    this.makeId = makeId;
    this.random = random;
    /** id → {id, name, role, members, head, read, joined, events: [..dense..], at, more, loading, unlisted} */
    this.conversations = new Map();
    /** Sends not yet acked: {client_msg_id, conversation, text, failed}. Kept over reconnects and reloads. */
    this.outbox = outbox;
    this.selected = null;
    /** connecting · login · live · waiting · stopped */
    this.phase = "connecting";
    this.session = null;
    this.notice = "";
    this.attempt = 0;
    this.nextRequest = 1;
    /** request id → what to do with its answer */
    this.requests = new Map();
  }

  // ---- the connection ----

  opened() {
    this.phase = "login";
    this.requests.clear();
    const { app, user, password, device } = this.profile;
    const auth = { password: { app, user, password } };
    return this.ask({ type: "login", auth, device: { id: device, platform: "web", name: "chat page" } }, { is: "login" });
  }

  closed(code, why) {
    this.requests.clear();
    for (const conversation of this.conversations.values()) conversation.loading = false;
    if (this.phase === "stopped") return [];
    if (code >= 4500 && code <= 4999) return this.stop(this.notice || why || `the node ended the session (${code})`);
    this.phase = "waiting";
    const most = Math.min(BACKOFF_MS.most, BACKOFF_MS.first * 2 ** this.attempt);
    this.attempt += 1;
    // Half fixed, half random, so that the clients of a lost node do not come back as one.
    return [{ connect: Math.round(most / 2 + (most / 2) * this.random()) }];
  }

  stop(why) {
    this.phase = "stopped";
    this.notice = why;
    return [{ stop: why }];
  }

  received(text) {
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      return [];
    }
    const request = frame.re === undefined ? undefined : this.requests.get(frame.re);
    if (request) this.requests.delete(frame.re);
    const handler = this.handlers[frame.type];
    // Types and fields this page does not know are passed over: newer nodes may send them.
    return handler ? handler.call(this, frame, request) : [];
  }

  handlers = {
    hello(frame) {
      this.session = { node: frame.node, cluster: frame.cluster, user: frame.user };
      const have = [];
      for (const { id, at, gone } of this.conversations.values()) if (at > 0 && !gone) have.push({ conversation: id, seq: at });
      return this.ask({ type: "resume", have }, { is: "resume" });
    },

    resumed(frame) {
      this.phase = "live";
      this.attempt = 0;
      this.notice = "";
      for (const { conversation, live_after, head, gone } of frame.conversations) {
        if (gone) this.forget(conversation);
        else this.startAt(this.conversation(conversation), live_after, head);
      }
      // Everything unacked goes out again under its own id: the service knows which of them it has.
      const again = this.outbox.filter((entry) => !entry.failed).flatMap((entry) => this.transmit(entry));
      return [...this.listConversations(), ...this.loadSelected(), ...again];
    },

    conversations(frame, request) {
      for (const item of frame.items) {
        const conversation = this.conversation(item.conversation);
        const { name, role, members, read, joined, head } = item;
        Object.assign(conversation, { name: name ?? "", role, members, joined, listed: true });
        conversation.read = Math.max(conversation.read, read);
        conversation.head = Math.max(conversation.head, head);
      }
      if (!frame.more || !request || !frame.items.length) return this.loadSelected();
      return this.listConversations(frame.items.at(-1).conversation);
    },

    conversation_added(frame) {
      const conversation = this.conversation(frame.conversation);
      // An event that overtook this frame is kept: what is held may only grow.
      if (frame.live_after > conversation.at) this.startAt(conversation, frame.live_after, frame.live_after);
      conversation.gone = false;
      return [...this.listConversations(), ...this.loadSelected()];
    },

    conversation_removed(frame) {
      this.forget(frame.conversation);
      return [];
    },

    event(frame) {
      const conversation = this.conversation(frame.conversation);
      if (frame.seq <= conversation.at) return [];
      conversation.events.push(frame);
      conversation.at = frame.seq;
      conversation.head = Math.max(conversation.head, frame.seq);
      this.changed(conversation, frame);
      if (MEMBERSHIP.includes(frame.event)) return [...this.arrived(frame), ...this.listConversations()];
      return this.arrived(frame);
    },

    history(frame, request) {
      const conversation = this.conversation(frame.conversation);
      conversation.loading = false;
      conversation.more = frame.more;
      conversation.head = Math.max(conversation.head, frame.head);
      const first = conversation.events[0]?.seq ?? conversation.at + 1;
      const older = frame.events.filter((event) => event.seq < first);
      conversation.events = [...older, ...conversation.events];
      const acked = older.flatMap((event) => this.settle(event));
      return request ? [...acked, ...this.markRead()] : acked;
    },

    ack(frame, request) {
      if (request?.is === "send") return this.settle({ client_msg_id: request.client_msg_id, from: this.profile.user });
      if (request?.is === "read") {
        const conversation = this.conversation(frame.conversation);
        conversation.read = Math.max(conversation.read, frame.seq);
      }
      if (request?.is === "create") this.selected = frame.conversation;
      return request?.is === "create" ? this.listConversations() : [];
    },

    read_moved(frame) {
      const conversation = this.conversation(frame.conversation);
      const key = frame.user === this.profile.user ? "read" : "peerRead";
      conversation[key] = Math.max(conversation[key], frame.seq);
      return [];
    },

    must_resync(frame) {
      const conversation = this.conversation(frame.conversation);
      Object.assign(conversation, { events: [], at: frame.oldest_seq - 1, more: false });
      return this.loadSelected();
    },

    goaway() {
      this.notice = "this node closes soon; another one takes over";
      return [];
    },

    error(frame, request) {
      const why = `C${frame.code} ${frame.name}: ${frame.message}`;
      if (request?.is === "login" && !frame.retryable) return this.stop(why);
      if (request?.is === "send") return this.sendFailed(request, frame, why);
      if (request?.is === "history") this.conversation(request.conversation).loading = false;
      this.notice = why;
      return [];
    },
  };

  // ---- what the user does ----

  select(id) {
    this.selected = id;
    return [...this.loadSelected(), ...this.markRead()];
  }

  /** Begins (or returns to) the private conversation with a user. It exists once something is said in it. */
  startPrivate(user) {
    const id = privateId(this.profile.user, user);
    this.conversation(id);
    return this.select(id);
  }

  createGroup(name, members) {
    const group = this.makeId();
    return this.ask({ type: "create_group", group, name, members }, { is: "create" });
  }

  invite(users) {
    return this.ask({ type: "invite", group: this.selected.slice(2), users }, { is: "invite" });
  }

  leave() {
    return this.ask({ type: "leave", group: this.selected.slice(2) }, { is: "leave" });
  }

  sendText(text) {
    const entry = { client_msg_id: this.makeId(), conversation: this.selected, text, failed: "" };
    this.outbox.push(entry);
    return [{ persist: this.outbox }, ...this.transmit(entry)];
  }

  /** Takes a failed message off the list. */
  discard(client_msg_id) {
    this.outbox = this.outbox.filter((entry) => entry.client_msg_id !== client_msg_id);
    return [{ persist: this.outbox }];
  }

  loadOlder() {
    const conversation = this.conversations.get(this.selected);
    return conversation?.more ? this.load(conversation) : [];
  }

  /** The page is looked at: what is shown is read. */
  markRead() {
    const conversation = this.conversations.get(this.selected);
    if (this.phase !== "live" || !conversation?.listed || conversation.asked >= conversation.at) return [];
    if (conversation.read >= conversation.at) return [];
    conversation.asked = conversation.at;
    return this.ask({ type: "read", conversation: conversation.id, seq: conversation.at }, { is: "read" });
  }

  ping() {
    return this.phase === "live" ? this.ask({ type: "ping" }, { is: "ping" }) : [];
  }

  /** A failed send's second chance, after the time the service asked for. */
  retry(client_msg_id) {
    const entry = this.outbox.find((entry) => entry.client_msg_id === client_msg_id);
    return entry && !entry.failed ? this.transmit(entry) : [];
  }

  // ---- what the view shows ----

  unread({ head, read, joined }) {
    return Math.max(0, head - Math.max(read, joined - 1));
  }

  title({ id, name }) {
    if (id.startsWith("g:")) return name || "group";
    const { user } = targetOf(id, this.profile.user);
    return user === this.profile.user ? "notes to self" : user;
  }

  /** Conversations that have something in them or are open, the busiest first. */
  list() {
    const last = ({ events }) => events.at(-1)?.time_ms ?? 0;
    return [...this.conversations.values()]
      .filter((c) => !c.gone && (c.listed || c.at > 0 || c.id === this.selected))
      .sort((a, b) => this.unread(b) - this.unread(a) || last(b) - last(a) || this.title(a).localeCompare(this.title(b)));
  }

  pending(id) {
    return this.outbox.filter((entry) => entry.conversation === id);
  }

  // ---- inside ----

  ask(request, purpose) {
    const id = this.nextRequest++;
    this.requests.set(id, purpose);
    return [{ send: { id, ...request } }];
  }

  transmit(entry) {
    if (this.phase !== "live") return [];
    const { client_msg_id, conversation, text } = entry;
    const to = targetOf(conversation, this.profile.user);
    const body = { kind: "text", text };
    return this.ask({ type: "send", to, client_msg_id, body }, { is: "send", client_msg_id });
  }

  sendFailed({ client_msg_id }, frame, why) {
    const entry = this.outbox.find((entry) => entry.client_msg_id === client_msg_id);
    if (!entry) return [];
    if (frame.retryable) return [{ retry: client_msg_id, delay_ms: frame.retry_after_ms ?? RETRY_MS }];
    entry.failed = why;
    return [{ persist: this.outbox }];
  }

  /** What became of a message that is held here. */
  changed(conversation, { event, target, by, body, seq }) {
    const message = conversation.events.find((held) => held.seq === target);
    if (event === "edited" && message && body) Object.assign(message, { body, edited_seq: seq });
    if (event !== "recalled") return;
    for (const held of conversation.events) if (held.seq === target || (held.event === "edited" && held.target === target)) delete held.body;
    if (message) message.recalled = { by };
  }

  arrived(event) {
    const acked = this.settle(event);
    return event.conversation === this.selected && this.looking !== false ? [...acked, ...this.markRead()] : acked;
  }

  /** An own message that is known to be stored leaves the outbox. */
  settle({ client_msg_id, from }) {
    if (from !== this.profile.user || !this.outbox.some((entry) => entry.client_msg_id === client_msg_id)) return [];
    return this.discard(client_msg_id);
  }

  conversation(id) {
    let found = this.conversations.get(id);
    if (!found) {
      found = { id, name: "", head: 0, read: 0, peerRead: 0, joined: 0, members: 0, events: [], at: 0, asked: 0 };
      this.conversations.set(id, { ...found, role: "", more: false, loading: false, listed: false, gone: false });
      found = this.conversations.get(id);
    }
    return found;
  }

  /** Live delivery continues after `live_after`; what is held must end there. */
  startAt(conversation, live_after, head) {
    if (conversation.at !== live_after) conversation.events = [];
    conversation.at = live_after;
    conversation.head = Math.max(head, live_after);
    conversation.more = conversation.events.length ? conversation.more : live_after > 0;
  }

  forget(id) {
    Object.assign(this.conversation(id), { gone: true, listed: false, at: 0, events: [] });
    if (this.selected === id) this.selected = null;
  }

  listConversations(after) {
    return this.ask({ type: "conversations", after }, { is: "list" });
  }

  loadSelected() {
    const conversation = this.conversations.get(this.selected);
    return conversation?.more && conversation.events.length < SCREENFUL ? this.load(conversation) : [];
  }

  load(conversation) {
    if (this.phase !== "live" || conversation.loading) return [];
    conversation.loading = true;
    const before = conversation.events[0]?.seq ?? conversation.at + 1;
    const { id } = conversation;
    return this.ask({ type: "history", conversation: id, before, limit: HISTORY_PAGE }, { is: "history", conversation: id });
  }
}

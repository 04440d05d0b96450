/** The page: polls the state about once a second, and shows it. */

import { at, cards, showRows, showTable } from "./cards.js";

const REFRESH_MS = 1000;

/** The state of each booking when it was last seen, so that changes can be announced. */
const seen = new Map();
let down = false;

/** Announces what has changed about bookings since the last refresh. */
function tellChanges(bookings) {
  const changed = bookings.filter(({ bookingId, state }) => seen.has(bookingId) && seen.get(bookingId) !== state);
  for (const { bookingId, state } of bookings) seen.set(bookingId, state);
  if (changed.length === 0) return;
  const told = changed.map(
    ({ guest, table, slot, state, reason }) => `${guest}, table ${table} at ${slot}: ${reason ? `${state}, ${reason}` : state}.`,
  );
  notice(
    told.join(" "),
    changed.every(({ state }) => state === "refused"),
  );
}

function show(state) {
  const { tables, bookings, ledger, slotSeconds } = state;
  for (const table of tables) showTable(table, state, { toggle, change });
  tellChanges(bookings);
  showRows(
    "bookings",
    bookings.map(({ guest, table, slot, state, reason, bookingId }) => [
      guest,
      table,
      slot,
      reason ? `${state}: ${reason}` : state,
      bookingId,
    ]),
  );
  const senders = [
    ...bookings.map((booking) => ({ ...booking, from: `booking of ${booking.guest}` })),
    ...tables.map((table) => ({ ...table, from: `table ${table.table}` })),
  ];
  const waiting = senders.flatMap(({ from, waiting, breaker }) => waiting.map(({ type, bookingId }) => [type, from, breaker, bookingId]));
  showRows("messages", waiting);
  showRows(
    "arrivals",
    ledger.latest.map(({ type, reason, table, slot, correlationId }) => [reason ? `${type}: ${reason}` : type, table, slot, correlationId]),
  );
  const open = senders.filter(({ breaker }) => breaker === "open").length;
  at("confirmed").textContent = tables.reduce((sum, { locks }) => sum + locks.length, 0);
  at("waiting").textContent = waiting.length;
  at("waiting-stop").classList.toggle("alert", waiting.length > 0);
  at("breaker").textContent = open === 0 ? "closed" : `${open} open`;
  at("breaker-stop").classList.toggle("alert", open > 0);
  at("arrived").textContent = ledger.arrived;
  at("duplicates").textContent = ledger.duplicates;
  at("slot-seconds").textContent = slotSeconds;
  down = ledger.down;
  at("outage").setAttribute("aria-pressed", String(down));
  at("outage").textContent = down ? "Bring the queue back" : "Take the queue down";
}

function notice(text, isError) {
  at("notice").textContent = text;
  at("notice").classList.toggle("error", isError);
}

/** Sends a request, reports the result in the notice, and refreshes the page at once. */
async function send(method, path, body, done) {
  try {
    const response = await fetch(path, { method, body: body && JSON.stringify(body) });
    const answer = await response.json();
    notice(response.ok ? done : answer.error, !response.ok);
    if (response.ok && answer.bookingId) seen.set(answer.bookingId, answer.state);
    await refresh();
  } catch {
    notice("The restaurant does not answer.", true);
  }
}

function toggle(table, slot) {
  const lock = cards.get(table).state.locks.find((one) => one.slot === slot);
  if (lock) return send("POST", `/bookings/${lock.bookingId}/cancel`, undefined, `Cancelled. Asking table ${table} to unlock ${slot}.`);
  const guest = at("guest").value;
  const guests = at("rivals").checked ? [guest, `${guest}, too`] : [guest];
  return Promise.all(guests.map((name) => book({ table, slot, guest: name, seats: at("seats").valueAsNumber })));
}

function book(wish) {
  return send("PUT", `/bookings/${crypto.randomUUID()}`, wish, `Asking for table ${wish.table} at ${wish.slot}…`);
}

function change(table, action) {
  return send("POST", `/tables/${table}/${action}`, undefined, `Table ${table}: ${action}.`);
}

at("outage").addEventListener("click", () => {
  const done = down
    ? "The queue is back. Waiting messages are delivered with the next retry."
    : "The queue is down. Bookings go on, and their announcements wait.";
  return send("POST", "/outage", { down: !down }, done);
});

/** A slow response that is overtaken by a newer one is not shown. */
let newest = 0;
async function refresh() {
  const mine = ++newest;
  const response = await fetch("/state");
  if (!response.ok) throw new Error(`The restaurant answered ${response.status}.`);
  const state = await response.json();
  if (mine === newest) show(state);
}

async function keepRefreshing() {
  if (!document.hidden) await refresh().catch(() => notice("The restaurant does not answer.", true));
  setTimeout(keepRefreshing, REFRESH_MS);
}

keepRefreshing();

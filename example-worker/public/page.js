/** The page: asks for the state about once a second, and shows it. All of it goes in as text, never as markup. */

const REFRESH_MS = 1000;

/** The element with this id. */
const at = (id) => document.getElementById(id);

/** The buttons, by `table slot`: made once, so that a refresh takes no one's focus away. */
const slotButtons = new Map();
let down = false;

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function makeTables({ tables, slots }) {
  for (const { table } of tables) {
    const grid = element("div", { className: "slots" });
    for (const slot of slots) {
      const button = element("button", { type: "button", className: "slot" });
      button.addEventListener("click", () => toggle(table, slot, button));
      slotButtons.set(`${table} ${slot}`, button);
      grid.append(button);
    }
    const note = element("span", { id: `note-${table}` });
    at("tables").append(element("article", { className: "table" }, element("h3", {}, `Table ${table}`, note), grid));
  }
}

function showTable({ table, reservations, pending, failures }, slots) {
  const taken = new Map(reservations.map((reservation) => [reservation.slot, reservation]));
  for (const slot of slots) {
    const button = slotButtons.get(`${table} ${slot}`);
    const reservation = taken.get(slot);
    const name = reservation === undefined ? "free" : reservation.guest;
    button.setAttribute("aria-pressed", String(reservation !== undefined));
    button.ariaLabel = `Table ${table} at ${slot}, ${reservation === undefined ? "free" : `${name}, ${reservation.seats} seats`}`;
    button.title = reservation === undefined ? "Book" : `${name}, ${reservation.seats} seats. Cancel`;
    button.replaceChildren(slot, element("small", { textContent: name }));
  }
  const failed = failures === 0 ? "" : `, ${failures} ${failures === 1 ? "failure" : "failures"}`;
  at(`note-${table}`).textContent = pending === 0 ? "" : `${pending} pending${failed}`;
}

function showArrivals(latest) {
  at("nothing").hidden = latest.length > 0;
  at("arrivals").replaceChildren(
    ...latest.map(({ id, type, table, reservation }) => {
      const cells = [type, table, reservation.slot, reservation.guest, id];
      return element("tr", {}, ...cells.map((cell) => element("td", { textContent: cell })));
    }),
  );
}

function show({ tables, slots, ledger }) {
  if (slotButtons.size === 0) makeTables({ tables, slots });
  for (const table of tables) showTable(table, slots);
  showArrivals(ledger.latest);
  const pending = tables.reduce((sum, table) => sum + table.pending, 0);
  at("booked").textContent = tables.reduce((sum, table) => sum + table.reservations.length, 0);
  at("pending").textContent = pending;
  at("pending-stop").classList.toggle("waiting", pending > 0);
  at("arrived").textContent = ledger.arrived;
  at("duplicates").textContent = ledger.duplicates;
  down = ledger.down;
  at("outage").classList.toggle("waiting", down);
  at("outage").textContent = down ? "Bring the queue back" : "Take the queue down";
}

function notice(text, isError) {
  at("notice").textContent = text;
  at("notice").classList.toggle("error", isError);
}

/** Does something, tells in the notice how it went, and shows the result at once. */
async function post(path, body, done) {
  try {
    const response = await fetch(path, { method: "POST", body: JSON.stringify(body) });
    const answer = await response.json();
    notice(response.ok ? done : answer.error, !response.ok);
    await refresh();
  } catch {
    notice("The restaurant does not answer.", true);
  }
}

function toggle(table, slot, button) {
  if (button.getAttribute("aria-pressed") === "true") {
    return post(`/tables/${table}/cancel`, { slot }, `Cancelled table ${table} at ${slot}.`);
  }
  const booking = { slot, guest: at("guest").value, seats: at("seats").valueAsNumber };
  return post(`/tables/${table}/book`, booking, `Booked table ${table} at ${slot}.`);
}

at("outage").addEventListener("click", () => {
  const done = down
    ? "The queue is back. What waits is delivered with the next retry."
    : "The queue is down. Book something: its message waits.";
  return post("/outage", { down: !down }, done);
});

/** A slow answer that is overtaken by a newer one is not shown. */
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

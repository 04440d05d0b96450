/** The elements of the page: a card for each table, and rows. Everything is inserted as text, never as markup. */

/** The element with this id. */
export const at = (id) => document.getElementById(id);

/** The elements of each table, by its number: created once, so that a refresh does not move the focus. */
export const cards = new Map();
function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function button(className, onClick) {
  const made = element("button", { type: "button", className });
  made.addEventListener("click", onClick);
  return made;
}

function makeCard({ table }, slots, { toggle, change }) {
  const slotButtons = new Map(slots.map((slot) => [slot, button("slot", () => toggle(table, slot))]));
  const closing = button("change", () => change(table, cards.get(table).state.status === "open" ? "close" : "open"));
  const removing = button("change", () => change(table, cards.get(table).state.status === "removed" ? "add" : "remove"));
  const note = element("span", {});
  const title = element("h3", {}, `Table ${table}`, note);
  const grid = element("div", { className: "slots" }, ...slotButtons.values());
  at("tables").append(element("article", { className: "table" }, title, grid, element("p", {}, closing, removing)));
  return { slotButtons, closing, removing, note, state: null };
}

/** @param actions what its buttons do: `toggle(table, slot)`, and `change(table, action)` */
export function showTable(state, { slots, bookings }, actions) {
  const { table, status, locks } = state;
  const card = cards.get(table) ?? makeCard(state, slots, actions);
  card.state = state;
  cards.set(table, card);
  card.note.textContent = status;
  for (const [slot, slotButton] of card.slotButtons) {
    const lock = locks.find((one) => one.slot === slot);
    const guest = lock && (bookings.find(({ bookingId }) => bookingId === lock.bookingId)?.guest ?? "another guest");
    const asked = bookings.some((booking) => booking.state === "initiated" && booking.table === table && booking.slot === slot);
    const text = guest ?? (asked ? "asked…" : status === "open" ? "free" : status);
    slotButton.setAttribute("aria-pressed", String(lock !== undefined));
    slotButton.ariaLabel = `Table ${table} at ${slot}, ${lock ? `locked for ${guest}: cancel` : `${text}: book`}`;
    slotButton.title = lock ? `Cancel. Locked until ${new Date(lock.until).toLocaleTimeString()}` : "Book";
    slotButton.replaceChildren(slot, element("small", { textContent: text }));
  }
  label(card.closing, status === "open" ? "Close" : "Open", table);
  label(card.removing, status === "removed" ? "Add" : "Remove", table);
  card.closing.hidden = status === "removed";
}

function label(made, text, table) {
  made.textContent = text;
  made.ariaLabel = `${text} table ${table}`;
}

/** Fills a table with rows of strings, or says that there is nothing. */
export function showRows(id, rows) {
  const columns = at(id).parentElement.querySelectorAll("th").length;
  const nothing = element("tr", {}, element("td", { className: "quiet", colSpan: columns, textContent: "None." }));
  const filled = rows.map((cells) => element("tr", {}, ...cells.map((textContent) => element("td", { textContent }))));
  at(id).replaceChildren(...(filled.length > 0 ? filled : [nothing]));
}

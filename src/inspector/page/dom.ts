/** Elements: made from plain calls, and brought in line with what is shown already, so that focus, selection and scrolling stay where they are. */

export type Child = Node | string | number | false | null | undefined;

/** Attributes. `false`, `null` and `undefined` leave one out, and `true` sets it without a value. */
export type Attributes = Readonly<Record<string, string | number | boolean | null | undefined>>;

/** An element. What is no node becomes text: nothing here, and nothing else in the page, takes text for markup. */
export function h(tag: string, attributes: Attributes = {}, ...children: readonly (Child | readonly Child[])[]): HTMLElement {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat()) {
    if (child !== false && child !== null && child !== undefined) element.append(child instanceof Node ? child : String(child));
  }
  if (isField(element) && element.dataset.value !== undefined) element.value = element.dataset.value;
  return element;
}

function isField(element: HTMLElement): element is HTMLInputElement | HTMLSelectElement {
  return element instanceof HTMLInputElement || element instanceof HTMLSelectElement;
}

/**
 * Makes an element look as another one does, and keeps those of its descendants that stay, told apart by `data-key` or by their place. A field keeps what
 * someone has put into it until its `data-value` changes.
 */
export function morph(from: HTMLElement, to: HTMLElement): void {
  const isSet = from.dataset.value !== to.dataset.value;
  for (const { name } of [...from.attributes]) if (!to.hasAttribute(name)) from.removeAttribute(name);
  for (const { name, value } of [...to.attributes]) if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  if (from instanceof HTMLInputElement && from.type === "checkbox") from.checked = to.hasAttribute("checked");
  const left = new Set<ChildNode>(from.childNodes);
  let at: ChildNode | null = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    const found = [...left].find((node) => isSame(node, wanted));
    if (!found) {
      from.insertBefore(wanted, at);
      continue;
    }
    left.delete(found);
    if (found === at) at = at.nextSibling;
    else from.insertBefore(found, at);
    if (found instanceof HTMLElement) morph(found, wanted as HTMLElement);
    else if (found.nodeValue !== wanted.nodeValue) found.nodeValue = wanted.nodeValue;
  }
  for (const node of left) node.remove();
  if (isField(from) && isSet && to.dataset.value !== undefined) from.value = to.dataset.value;
}

function isSame(a: ChildNode, b: ChildNode): boolean {
  if (a.nodeName !== b.nodeName) return false;
  return !(a instanceof HTMLElement && b instanceof HTMLElement) || a.dataset.key === b.dataset.key;
}

/** A button that does something: see `actions.ts`. */
export function button(label: string, act: string, attributes: Attributes = {}, ...children: readonly Child[]): HTMLElement {
  return h("button", { type: "button", "data-do": act, ...attributes }, ...(children.length > 0 ? children : [label]));
}
